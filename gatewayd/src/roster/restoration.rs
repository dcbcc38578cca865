//! Device keys that browsers dropped: the same passkey vouches for a new one, and one other person
//! signs. At most one restoration of a device is begun and one proposed at a time; the newest counts.

use std::sync::Arc;

use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::Device;
use twinlock_protocol::signature;
use twinlock_protocol::statement::{PossessionStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec};

use super::enrolment::{EnrolStatus, Progress, ToProve, phase_of, signatures};
use super::invite::possession;
use super::keeper::{ChangeError, Changes};
use super::op::Op;
use super::papers::Moves;
use super::proposal::{Proposal, ProposalId, Proposer, RESTORE_VALID_S};
use crate::approval::{SignInFinish, Source};
use crate::audit::Event;
use crate::enrol::passkey::{DeviceKey, TIMEOUT};
use crate::random::random;

/// A device whose browser made a new key.
pub(super) struct Restore {
    person: PersonId,
    /// As it will stand in the roster.
    device: Device,
    /// What its browser is to sign.
    statement: PossessionStatement,
    proposal: Option<ProposalId>,
    pub(super) until: UnixTime,
}

/// A browser that wants its device key restored.
#[derive(Clone, Debug)]
pub struct RestoreStart {
    /// A sign-in's challenge, signed by the passkey.
    pub sign_in: SignInFinish,
    /// The new device key, and its proof.
    pub device_key: DeviceKey,
}

impl Changes {
    /// A browser that dropped its device key made another: the passkey says whose it is.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`] for everything that does not verify (W8).
    pub async fn start_restore(
        self: &Arc<Self>,
        start: RestoreStart,
        from: &Source,
    ) -> Result<(Fixed<16>, String, ToProve), DenyReason> {
        // Before the lock: strangers may try this, and must not keep others waiting.
        let (person, device, challenge) = self.approvers.verify_passkey_alone(&start.sign_in, from).await?;
        let from = from.to_string();
        self.with(move |changes, mut held| async move {
            let (now, head) = (changes.engine.clock.now(), changes.engine.roster());
            let DeviceKey { key, proof } = &start.device_key;
            let mine = signature::verify(key, &Domain::Claim.message(challenge.as_bytes()), proof);
            let replaces = device.device_key;
            let device = Device { device_key: Some(*key), ..device };
            let keys = |one: &Device| [Some(one.credential_key), one.device_key];
            let known = |one: &Device| signature::any_in_common(&keys(one), &[Some(*key)]);
            if !mine || head.persons.iter().flat_map(|person| &person.devices).any(known) {
                return Err(DenyReason::SignInNeeded);
            }
            let statement = possession(&person.id, &device, replaces, Fixed(random()?));
            let id = Fixed(random()?);
            let (whose, which) = (person.id.clone(), device.id.clone());
            changes.engine.note(vec![Event::RestorationAsked { person: whose, device: which, from }]).await;
            // One that was begun and left is gone with it.
            held.restores.retain(|_, one| one.device.id != device.id || one.proposal.is_some());
            let prove =
                ToProve { record: Bytes(codec::encode(&device)), device: device.clone(), statement: statement.clone() };
            let until = now.plus(TIMEOUT.as_secs());
            held.restores.insert(id, Restore { person: person.id, device, statement, proposal: None, until });
            Ok((id, person.name, prove))
        })
        .await
    }

    /// Passkey and new key prove possession: a proposal stands, for one other person to sign.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn finish_restore(
        self: &Arc<Self>,
        id: &Fixed<16>,
        signed: SignedStatement,
    ) -> Result<ProposalId, ChangeError> {
        let id = *id;
        self.with(move |changes, mut held| async move {
            let (head, now) = (changes.engine.roster(), changes.engine.clock.now());
            let restore = held.restores.get(&id).ok_or(DenyReason::NotFound)?;
            let (person, device) = (restore.person.clone(), restore.device.clone());
            if restore.proposal.is_some() {
                return Err(DenyReason::ProposalOver.into());
            }
            if signed.statement.0 != restore.statement.to_bytes() {
                return Err(DenyReason::EvidenceOtherRequest.into());
            }
            head.verify_possession(&person, &device, &signed)?;
            let device_key = device.device_key.ok_or(DenyReason::Internal)?;
            let ops = vec![Op::RestoreDeviceKey {
                person: person.clone(),
                device: device.id.clone(),
                device_key,
                possession: Box::new(signed),
            }];
            // An earlier key of the same browser is gone with it.
            let same = |op: &Op| matches!(op, Op::RestoreDeviceKey { device: one, .. } if *one == device.id);
            let mut moves = Moves::default();
            for stale in held.proposals.iter().filter(|one| one.is_open() && one.ops.iter().any(same)) {
                let mut over = Proposal::clone(stale);
                over.replaced(now);
                moves.proposals.push(over);
            }
            let by = Proposer::Device { person };
            let proposal = changes.draw_up(&held, ops, by, None, RESTORE_VALID_S, &mut moves)?;
            changes.commit(&mut held, moves).await?;
            held.restores.retain(|one, restore| restore.device.id != device.id || *one == id);
            if let Some(restore) = held.restores.get_mut(&id) {
                restore.proposal = Some(proposal);
                restore.until = now.plus(RESTORE_VALID_S);
            }
            Ok(proposal)
        })
        .await
    }

    /// How far a restoration is.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`].
    pub async fn restore_status(self: &Arc<Self>, id: &Fixed<16>) -> Result<EnrolStatus, DenyReason> {
        let id = *id;
        self.with(move |changes, held| async move {
            let restore = held.restores.get(&id).ok_or(DenyReason::NotFound)?;
            let (state, (signed, needs)) = match &restore.proposal {
                None => (Progress::Possess, (0, 1)),
                Some(proposal) => {
                    let state = phase_of(&held, proposal, &changes.engine.roster(), &restore.device);
                    (state, signatures(&held, proposal))
                }
            };
            let record = Some(Bytes(codec::encode(&restore.device)));
            Ok(EnrolStatus { state, signed, needs, record, possession: None })
        })
        .await
    }
}
