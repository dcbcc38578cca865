// The shapes of docs/approver-api.md and of the protocol's request and roster, for the type check
// alone: this file is never served.

/** base64url without padding. */
export type B64 = string;
/** One argument: text, or bytes that are not UTF-8. */
export type Arg = string | { b64: B64 };

export interface Login { uid: number; name: string }

export interface View {
  mode: "command" | "shell" | "login_shell" | "edit" | "switch_user" | "query";
  command_at: number | null;
  shell: Arg | null;
  editor: Arg | null;
  chdir: Arg | null;
  chroot: Arg | null;
  assignments: Arg[];
  preserve_env: boolean;
  background: boolean;
  open_ended: boolean;
  not_understood: string | null;
}

export interface Request {
  format: "twinlock-request";
  version: 1;
  kind: "module" | "ssh" | "ahead";
  roster: { version: number; digest: B64 };
  host: string;
  boot_id: string;
  service: string;
  requester: { login: Login | null; real: Login; pam_ruser: string | null };
  target: { user: string; uid: number; group: string | null };
  view: View;
  argv: Arg[];
  cwd: Arg | null;
  tty: string | null;
  process: { pid: number; start_time: number; parent: number; session: number };
  stdin: "terminal" | "piped" | "file" | "null" | "closed" | "other";
  reason: string | null;
  ttl_s: number;
  scope: "command" | "session";
  created_at: number;
  approve_by_s: number;
  nonce: B64;
  session_key: B64;
  terminal_code: { salt: B64; hash: B64 };
}

export type Channel = { ticket: B64 } | { inbox: Record<string, never> };

export interface Requester { id: string; name: string; kind: "human" | "service" }
export interface Approved { name: string; age_s: number }

export interface Claim {
  claim: string;
  slot: 1 | 2;
  lease_s: number;
  left_s: number;
  request: B64;
  host: { id: string; name: string };
  requesters: Requester[];
  approved: Approved[];
  max_ttl_s: number;
  statement: {
    request_digest: B64;
    person: string;
    credential_id: B64;
    device_id: string;
    channel: Channel;
    gateway_salt: B64;
  };
}

export type ClaimState =
  | { state: "open"; lease_s: number; left_s: number; approved: Approved[] }
  | { state: "over"; problem: string };

export type Assurance = "A" | "B" | "C" | "D";
export interface DeviceInfo { id: string; label: string; assurance: Assurance }
export interface PersonInfo { id: string; name: string }

export type Me =
  | { signed_in: false }
  | {
      signed_in: true;
      person: PersonInfo;
      device: DeviceInfo;
      credential_id: B64;
      valid_s: number;
      claim_nonce: B64;
    };
export type SignedIn = Extract<Me, { signed_in: true }>;

export interface Waiting {
  request: B64;
  requester: string;
  host: string;
  target: string;
  summary: string;
  reason: string | null;
  age_s: number;
  left_s: number;
  approved: number;
}

export interface Creation {
  challenge: B64;
  rp: { id: string; name: string };
  user: { id: B64; name: string; displayName: string };
  pubKeyCredParams: PublicKeyCredentialParameters[];
  timeout: number;
  authenticatorSelection: AuthenticatorSelectionCriteria;
  attestation: AttestationConveyancePreference;
}

/** `possess` and `declined` only while a gateway runs, `sign` only in the ceremony. */
export type EnrolState = "enrol" | "possess" | "wait" | "sign" | "sealed" | "declined";
export interface EnrolStart { enrol: string; person: PersonInfo; state: EnrolState; creation: Creation | null }
export interface RosterStatement {
  roster_version: number;
  roster_digest: B64;
  person: string;
  credential_id: B64;
  device_id: string;
  gateway_salt: B64;
}
export interface EnrolStatus {
  state: EnrolState;
  people: { name: string; enrolled: boolean; signed: boolean }[];
  roster: { bytes: B64; digest: B64 } | null;
  statement: RosterStatement | null;
  /** By invite: how many have signed the change, and the device's record. */
  signed?: number;
  needs?: number;
  record?: B64 | null;
  /** In state `possess`: what a page that was loaded anew goes on with. */
  possession?: Possession | null;
}

/** What a new device signs to show that it holds its keys. */
export interface Possession { person: string; device: B64; replaces: B64 | null; credential_id: B64; device_id: string; gateway_salt: B64 }
export interface Possess { record: B64; possession: Possession }
export type Enrolled = { state: "wait" } | ({ state: "possess"; device: DeviceInfo } & Possess);
export type Restore = { restore: string; person: PersonInfo } & Possess;
export interface RestoreStatus { state: "possess" | "wait" | "sealed" | "declined"; signed: number; needs: number }

export interface RosterHead { version: number; digest: B64; bytes: B64; expires_in_s: number; may_sign: boolean }
export interface RosterVersion { version: number; digest: B64; bytes: B64 }
export interface ProposalSummary {
  id: string;
  kind: "ordinary" | "suspension" | "restoration";
  title: string;
  proposed_by: string | null;
  age_s: number;
  left_s: number;
  base_version: number;
  needs: number;
  signatures: { person: string; name: string; age_s: number }[];
  contested: boolean;
  /** Who made the invite behind it; a name of null: the gateway's command line. */
  invited_by: { name: string | null } | null;
  may_withdraw: boolean;
  may_sign: boolean;
  why_not: string | null;
}
export interface Proposal extends ProposalSummary {
  base: RosterVersion;
  next: RosterVersion;
  statement: RosterStatement | null;
}
export interface SignedProposal { state: "open" | "sealed"; version: number; signatures: number; needs: number }

export interface NewPerson { name: string; logins: string[]; groups: string[]; approver: boolean; requester: boolean }
export interface Invite { invite: string; link: string; code: string[] | null; valid_s: number; person: PersonInfo }
export interface InviteLine {
  invite: string;
  person: PersonInfo;
  by: string | null;
  state: "open" | "opened" | "enrolled" | "proposed";
  contested: boolean;
  left_s: number;
  /** The change that it became. */
  proposal: string | null;
}

export interface Assertion { authenticator_data: B64; client_data_json: B64; signature: B64 }
export interface SignedStatement { statement: B64; assertion: Assertion; device_signature: B64 | null }

export interface Device {
  id: string;
  label: string;
  client_class: "page" | "terminal";
  credential_id: B64;
  credential_key: B64;
  backup_eligible: boolean;
  aaguid: B64;
  attested: boolean;
  device_key: B64 | null;
}
export interface Person {
  id: string;
  name: string;
  kind: { human: Record<string, never> } | { service: { owner: string } };
  logins: string[];
  groups: string[];
  may_request: boolean;
  standing: "active" | { suspended: { by: string | null } };
  devices: Device[];
}
export type Which = { any: Record<string, never> } | { of: string[] };
export interface Gate { hosts: Which; targets: Which; approvers: string[] }
export interface Host { id: string; name: string; groups: string[]; host_key: B64; agent_key: B64 }
export interface BreakGlassKey { person: string; key: B64 }
export interface Roster {
  format: "twinlock-roster";
  format_version: 1;
  version: number;
  previous: B64 | null;
  issued_at: number;
  expires_at: number;
  rp_id: string;
  origins: string[];
  persons: Person[];
  hosts: Host[];
  gateways: { address: string; key: B64 }[];
  uids: { host: string; uid: number; person: string }[];
  cas: { id: string; certificate: B64 }[];
  audit_keys: B64[];
  break_glass_keys: BreakGlassKey[];
  rules: {
    quorum: number;
    floor: Assurance;
    aaguids: B64[];
    max_ttl_s: number;
    max_approve_by_s: number;
    distinct_client_class: boolean;
    break_glass: { delay_s: number; max_ttl_s: number };
    gates: Gate[];
  };
}

/** What IndexedDB keeps for one passkey of this browser profile. */
export interface KeptKey {
  credential_id: B64;
  rp_id: string;
  /** Not extractable. */
  key: CryptoKey;
  /** SEC1, uncompressed. */
  public_key: B64;
  /** What the browser said of the passkey when it was made here. */
  passkey?: { credential_key: B64 | null; backup_eligible: boolean | null; aaguid: B64 | null };
  /** While others must still sign that this key takes the place of one that was lost. */
  restore?: { id: string; person: PersonInfo; words: string[] };
}

/** A run of text as people see it. */
export interface Segment { text: string; kind: "plain" | "break" | "hidden" }
/** Our own words, or something untrusted to be shown between them. */
export type Piece = string | { raw: Arg; strong?: boolean };
