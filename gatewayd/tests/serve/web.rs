//! The approver listener as browsers and other sites see it.

use hyper::Method;
use serde_json::json;
use twinlock_protocol::statement::Decision;

use crate::support::{Binary, Gateway, Site, sign_in_challenge};

/// Catalogue: W1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn changes_from_another_site_are_refused() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut bob = gateway.approver(&site, "bob");
    bob.sign_in().await;
    let cookie = bob.cookie.clone().unwrap();
    let good = [
        ("origin", site.origin.clone()),
        ("content-type", "application/json".to_owned()),
        ("x-twinlock", "1".to_owned()),
        ("sec-fetch-site", "same-origin".to_owned()),
        ("cookie", cookie),
    ];
    let paths = ["/api/v1/claim", "/api/v1/answer", "/api/v1/sign-out", "/api/v1/release", "/api/v1/sign-in/start"];
    let changes: [(&str, Option<&str>); 8] = [
        ("origin", Some("https://evil.example")),
        ("origin", Some("null")),
        ("origin", None),
        ("content-type", Some("text/plain")),
        ("content-type", None),
        ("x-twinlock", None),
        ("sec-fetch-site", Some("cross-site")),
        ("sec-fetch-site", Some("same-site")),
    ];
    for path in paths {
        for (name, value) in changes {
            let mut headers: Vec<(&str, &str)> = good.iter().map(|(n, v)| (*n, v.as_str())).collect();
            headers.retain(|(known, _)| *known != name);
            headers.extend(value.map(|value| (name, value)));
            let answer = bob.web.send(Method::POST, path, &headers, b"{}".to_vec()).await;
            assert_eq!(answer.problem(), "cross-site", "{path} {name} {value:?}");
            assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
        }
    }
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let headers: Vec<(&str, &str)> = good.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(bob.web.send(method, "/api/v1/sign-out", &headers, Vec::new()).await.status, 403);
    }
    // Nothing of all this signed bob out; the page's own call does.
    let me = bob.web.get("/api/v1/me", bob.cookie.as_deref()).await.ok();
    assert_eq!(me["signed_in"], true);
    bob.post("/api/v1/sign-out", &json!({})).await.ok();
    let me = bob.web.get("/api/v1/me", bob.cookie.as_deref()).await.ok();
    assert_eq!(me["signed_in"], false);
}

/// Catalogue: W5 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn another_host_header_gets_nothing_and_no_redirect() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let web = gateway.approver(&site, "bob").web;
    assert_eq!(web.get("/", None).await.status, 200);
    // The QR is in capitals, and so may be what a phone sends.
    let capitals = web.authority().to_ascii_uppercase();
    assert_eq!(web.send(Method::GET, "/", &[("host", &capitals)], Vec::new()).await.status, 200);
    for host in ["evil.example", "tl.example.org.evil.example", "tl.example.org:444", ""] {
        let answer =
            web.send(Method::GET, "/", &[("host", host), ("origin", "https://evil.example")], Vec::new()).await;
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.headers.get("location").is_none() && !answer.text.contains("evil"));
        assert!(answer.headers.get("access-control-allow-origin").is_none());
    }
}

/// Catalogue: Q9 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_qr_url_claims_and_changes_nothing() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let web = gateway.approver(&site, "bob").web;
    let rows = gateway.running.engine.store.audit(&Default::default()).unwrap().len();
    let question = twinlock_gatewayd::store::AuditQuery { after: 0, limit: 1000, grant: None };
    let before = gateway.running.engine.store.audit(&question).unwrap().len();
    assert_eq!(rows, 0, "the default question asks for no rows");
    for method in [Method::GET, Method::HEAD] {
        for path in [format!("/S/{ticket}"), format!("/api/v1/claim?ticket={ticket}"), "/api/v1/me".to_owned()] {
            let answer = web.send(method.clone(), &path, &[("sec-purpose", "prefetch")], Vec::new()).await;
            assert!(answer.status == 200 || answer.status == 405, "{path} {}", answer.status);
        }
    }
    assert_eq!(gateway.running.engine.store.audit(&question).unwrap().len(), before);
    assert_eq!(gateway.approver(&site, "bob").answer(&ticket, Decision::Approve).await, "approved_first");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_the_api_promises() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let web = gateway.approver(&site, "bob").web;
    for path in ["/", "/S/AAAAAAAAAAAAAAAAAAAAAAAAAA", "/api/v1/me", "/api/v1/inbox", "/crl.der", "/nothing"] {
        let answer = web.get(path, None).await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers.get(name).map(|v| v.to_str().unwrap()), Some(value), "{path} {name}");
        }
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(answer.headers["strict-transport-security"].to_str().unwrap().starts_with("max-age="));
    }
}

/// Catalogue: W7 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_alone_claims_nothing_and_is_new_at_each_sign_in() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut bob = gateway.approver(&site, "bob");
    let nonce = bob.nonce().await;
    let body = json!({ "ticket": ticket, "claim_nonce": nonce, "device_signature": null });
    assert_eq!(bob.post("/api/v1/claim", &body).await.problem(), "device-signature");
    let body = json!({ "ticket": ticket, "claim_nonce": nonce, "device_signature": bob.signature(&[b"x"]) });
    assert_eq!(bob.post("/api/v1/claim", &body).await.problem(), "bad-input", "a nonce is good once");
    let first = bob.cookie.clone();
    bob.sign_in().await;
    assert_ne!(first, bob.cookie);
    assert_eq!(bob.answer(&ticket, Decision::Approve).await, "approved_first");
    // Without a session nothing is told.
    bob.cookie = Some("__Host-twinlock=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into());
    assert_eq!(bob.post("/api/v1/claim", &body).await.problem(), "sign-in-needed");
    gateway.pass(12 * 3600 + 1).await;
    bob.cookie = first;
    assert_eq!(bob.web.get("/api/v1/me", bob.cookie.as_deref()).await.ok()["signed_in"], false);
}

/// Catalogue: W8 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn every_failed_sign_in_looks_the_same() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut bob = gateway.approver(&site, "bob");
    let carol = site.fixture.phone("carol");
    let mut bodies = Vec::new();
    for case in 0..5 {
        let start = bob.web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
        assert!(start.get("allowCredentials").is_none());
        let challenge = sign_in_challenge(&start);
        let mut form = bob.phone.honest(&site.roster, &challenge);
        let mut credential = bob.phone.device.credential_id.clone();
        match case {
            0 => credential.0 = twinlock_protocol::Bytes(vec![7; 16]),
            1 => credential = carol.device.credential_id.clone(),
            2 => form.flags &= !0x04,
            3 => form.origin = "https://evil.example".into(),
            _ => form.challenge = "AAAA".into(),
        }
        let body = json!({
            "sign_in": start["sign_in"], "credential_id": credential, "assertion": bob.phone.assert(&form),
            "device_signature": bob.signature(&[challenge.as_bytes()]),
        });
        let answer = bob.web.post("/api/v1/sign-in/finish", None, &body).await;
        assert!(answer.headers.get("set-cookie").is_none());
        bodies.push(answer.text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    bob.sign_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_limited_and_told_when_to_come_back() {
    let site = Site::with(|_| {}, "[limits]\ncalls_per_approver = 3\nrequests_per_person = 2\n");
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let mut bob = gateway.approver(&site, "bob");
    for _ in 0..3 {
        assert_eq!(bob.try_claim("AAAAAAAAAAAAAAAAAAAAAAAAAA").await.problem(), "ticket-unknown");
    }
    let limited = bob.try_claim("AAAAAAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!((limited.status, limited.problem().as_str()), (429, "rate-limited"));
    assert!(limited.body["retry_after_s"].as_u64().unwrap() >= 1 && limited.headers.contains_key("retry-after"));
    for _ in 0..2 {
        let waiting = site.request();
        agent.submit(&waiting).await;
        agent.ticket(waiting.id).await;
    }
    let third = site.request();
    agent.submit(&third).await;
    let twinlock_protocol::wire::module::ModuleEvent::Refused(refused) = agent.event(third.id).await else {
        panic!("not limited")
    };
    assert_eq!(refused.reason, twinlock_protocol::DenyReason::RateLimited);
    assert!(refused.retry_after_s.unwrap() >= 1);
}

/// Catalogue: L3 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_cookie_token_or_key_is_in_the_database_or_a_log() {
    use crate::support::Agent;
    let site = Site::new();
    let binary = Binary::start(&site);
    let mut agent = Agent::connect(binary.agents, &site.fixture.agent_key_pkcs8, "web01").await.unwrap();
    let waiting = site.request();
    agent.submit(&waiting).await;
    let mut secrets = vec![waiting.resume_token.to_text(), "418302".to_owned(), "418 302".to_owned()];
    for person in ["bob", "carol"] {
        let (_, ticket) = agent.ticket(waiting.id).await;
        let mut approver = site.approver(binary.approver, person);
        let claim = approver.claim(&ticket).await;
        secrets.push(claim.id.clone());
        secrets.push(approver.nonce().await.to_text());
        secrets.push(approver.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned());
        // Another site's call, or a person's slip, must not carry them into the log.
        let foreign = [("origin", "https://evil.example"), ("content-type", "application/json")];
        for path in
            [format!("/S/{ticket}"), format!("/s/x/{ticket}?t={ticket}"), format!("/api/v1/claims/{}", claim.id)]
        {
            let answer = approver.web.send(Method::POST, &path, &foreign, b"{}".to_vec()).await;
            assert_eq!(answer.problem(), "cross-site", "{path}");
        }
        secrets.push(ticket);
        approver.give(&claim, Decision::Approve).await.ok();
    }
    agent.granted(waiting.id).await;
    binary.kill();
    let mut names = Vec::new();
    let mut haystack = Vec::new();
    for entry in std::fs::read_dir(site.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("gateway.db") || name.ends_with(".log") || name.ends_with(".jsonl") {
            haystack.extend(std::fs::read(&path).unwrap());
            names.push(name);
        }
    }
    assert!(names.len() >= 3, "{names:?}");
    let holds = |needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);
    for secret in &secrets {
        assert!(!holds(secret.as_bytes()), "{secret}");
        if let Ok(bytes) = data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes())
            && bytes.len() >= 16
        {
            assert!(!holds(&bytes), "{secret}, as bytes");
        }
    }
    for key in ["ca.key", "gateway.key"] {
        let der = std::fs::read(site.path().join(key)).unwrap();
        assert!(!holds(&der[36..68]), "{key}");
    }
    // The search finds what is there.
    assert!(holds("/S/…".as_bytes()) && holds("/api/v1/claims/…".as_bytes()));
    assert!(holds(b"request_admitted") && holds(waiting.id.grant().to_string().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_answer_on_their_own_listener() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    for (path, holds) in [("/metrics", "twinlock_requests_waiting"), ("/healthz", "\"status\":\"ok\"")] {
        let mut stream = tokio::net::TcpStream::connect(gateway.running.monitor.unwrap()).await.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(holds), "{text}");
    }
}

/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_hold_every_connection() {
    use tokio::io::AsyncReadExt;
    let site = Site::with(|_| {}, "[limits]\nconnections_per_address = 4\n");
    let gateway = Gateway::start(&site).await;
    let address = gateway.running.approver;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let mut fifth = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(fifth.read(&mut [0; 1]).await.unwrap_or(0), 0, "the fifth is hung up on at once");
    drop(silent);
    let web = gateway.approver(&site, "bob").web;
    for _ in 0..100 {
        if web.try_send(Method::GET, "/", &[], Vec::new()).await.is_some_and(|answer| answer.status == 200) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("others are not served after the silent ones left");
}

/// Catalogue: Q1 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn who_claims_is_audited_with_address_and_browser() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let mut agent = gateway.agent(&site).await;
    let waiting = site.request();
    agent.submit(&waiting).await;
    let (_, ticket) = agent.ticket(waiting.id).await;
    let mut bob = gateway.approver(&site, "bob");
    let nonce = bob.nonce().await;
    let body = json!({
        "ticket": ticket, "claim_nonce": nonce, "device_signature": bob.signature(&[&nonce.0, ticket.as_bytes()]),
    });
    let headers = [
        ("origin", site.origin.as_str()),
        ("content-type", "application/json"),
        ("x-twinlock", "1"),
        ("cookie", bob.cookie.as_deref().unwrap()),
        ("user-agent", "Phone/1.0 (a browser)"),
    ];
    let answer = bob.web.send(Method::POST, "/api/v1/claim", &headers, serde_json::to_vec(&body).unwrap()).await;
    assert_eq!(answer.status, 200);
    let question = twinlock_gatewayd::store::AuditQuery { after: 0, limit: 1000, grant: Some(waiting.id.grant()) };
    let rows = gateway.running.engine.store.audit(&question).unwrap();
    let claimed = rows.iter().find(|row| row.event.contains("\"claimed\"")).unwrap();
    assert!(claimed.event.contains("127.0.0.1 Phone/1.0 (a browser)"), "{}", claimed.event);
}

/// Catalogue: N5 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_address_is_not_believed() {
    let site = Site::with(|_| {}, "[limits]\ncalls_per_address = 10\n");
    let gateway = Gateway::start(&site).await;
    let web = gateway.approver(&site, "bob").web;
    let mut statuses = Vec::new();
    for number in 0..15 {
        let forged = format!("198.51.100.{number}");
        let headers =
            [("x-forwarded-for", forged.as_str()), ("x-real-ip", forged.as_str()), ("forwarded", "for=192.0.2.9")];
        statuses.push(web.send(Method::GET, "/api/v1/me", &headers, Vec::new()).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    assert!(statuses.ends_with(&[429; 5]));
}

/// Also what no handler of ours refuses.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_a_problem_document() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let web = gateway.approver(&site, "bob").web;
    let long = vec![b' '; 64 * 1024 + 1];
    let ours = [("content-type", "application/json"), ("origin", site.origin.as_str()), ("x-twinlock", "1")];
    for (method, path, body, status) in [
        (Method::GET, "/api/v1/claim", Vec::new(), 405),
        (Method::POST, "/api/v1/me", b"{}".to_vec(), 405),
        (Method::POST, "/api/v1/sign-in/start", long, 413),
        (Method::GET, "/assets/nothing.js", Vec::new(), 404),
        (Method::GET, "/nothing", Vec::new(), 404),
    ] {
        let answer = web.send(method, path, &ours, body).await;
        assert_eq!((answer.status, answer.body["status"].as_u64()), (status, Some(status.into())), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert!(!answer.problem().is_empty());
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{path}");
    }
    // Control: what is answered is no problem.
    let answer = web.send(Method::POST, "/api/v1/sign-in/start", &ours, b"{}".to_vec()).await;
    assert_eq!((answer.status, answer.headers["content-type"].as_bytes()), (200, &b"application/json"[..]));
}
