//! A stand-in phone: a headless Chromium of its own (profile, HOME, trusted CA), 360×740 with a
//! touch screen, whose virtual authenticator is the finger. It sees and presses what a person
//! would; whatever it approves went through the real page.
//!
//! It must not look into the page's modules or call the API behind the page's back.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64_MIME, BASE64URL_NOPAD};
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use twinlock_protocol::ids::{CredentialId, DeviceId};
use twinlock_protocol::roster::{ClientClass, Device};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::random;
use twinlock_protocol::{Bytes, Fixed};

use crate::approver::Site;

/// How long a person's patience lasts for one step.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(25);
/// What a phone's Chrome calls itself.
const AGENT: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36";

/// What kind of phone it is; edit before [`PhonePlan::start`].
#[derive(Clone, Debug)]
pub struct PhonePlan {
    /// Shown in panics.
    pub name: String,
    /// The user agent.
    pub agent: String,
    /// Its passkeys are backup eligible and backed up (BE=BS=1).
    pub synced: bool,
    /// Prefers a dark page.
    pub dark: bool,
    /// Without it the phone has no passkeys at all.
    pub authenticator: bool,
}

/// A running phone. Dropping it ends its browser.
pub struct Phone {
    plan: PhonePlan,
    runtime: Runtime,
    client: Option<Client>,
    driver: Child,
    site: Site,
    authenticator: Option<String>,
    _home: TempDir,
}

/// A passkey and a device key made outside the page, for tests that start with an enrolled phone.
pub struct Keys {
    /// The roster's entry.
    pub device: Device,
    person: String,
    passkey_pkcs8: Vec<u8>,
    device_key_pkcs8: Vec<u8>,
}

/// A request as the page shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Who wants to do what, as whom, where.
    pub heading: String,
    /// Each warning, title and text.
    pub warnings: Vec<String>,
    /// The requester's words, and the line that marks them as such.
    pub reason: Option<(String, String)>,
    /// The rows of facts, as `term: text`.
    pub facts: Vec<String>,
    /// The exact command, one argument per line.
    pub command: Vec<String>,
    /// Marked runs of text inside the command: what would have been hidden.
    pub marked: Vec<String>,
    /// Lives on offer.
    pub lives: Vec<String>,
    /// Whether Approve could be pressed before anything was scrolled.
    pub ready_at_once: bool,
}

#[derive(Debug)]
struct Wire {
    method: Method,
    path: String,
    body: Value,
}

impl WebDriverCompatibleCommand for Wire {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        let body = (self.method == Method::POST).then(|| self.body.to_string());
        (self.method.clone(), body)
    }
}

impl Keys {
    /// New keys of a person: a device-bound passkey (BE=0) and a device key, assurance B.
    #[must_use]
    pub fn new(person: &str, device: &str) -> Self {
        let (passkey, passkey_pkcs8) = SigningKey::generate().expect("a key");
        let (device_key, device_key_pkcs8) = SigningKey::generate().expect("a key");
        let device = Device {
            id: DeviceId::new(device).expect("a device id"),
            label: format!("{person}'s browser"),
            client_class: ClientClass::Page,
            credential_id: CredentialId(Bytes(random::<16>().to_vec())),
            credential_key: passkey.public(),
            backup_eligible: false,
            aaguid: Fixed([0; 16]),
            attested: false,
            device_key: Some(device_key.public()),
        };
        Self { device, person: person.to_owned(), passkey_pkcs8, device_key_pkcs8 }
    }
}

impl PhonePlan {
    /// An ordinary phone with a screen lock.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), agent: AGENT.to_owned(), synced: false, dark: false, authenticator: true }
    }

    /// Starts the browser; it trusts the site's CA and finds the site at its address.
    #[must_use]
    pub fn start(self, site: &Site) -> Phone {
        let home = tempfile::tempdir().expect("a home");
        trust(home.path(), &site.ca);
        let (mut driver, port) = start_driver(home.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let host = site.origin.trim_start_matches("https://").split(':').next().expect("a host").to_owned();
        let capabilities = json!({
            "pageLoadStrategy": "eager",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": [
                    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                    "--hide-scrollbars", format!("--user-data-dir={}", home.path().join("profile").display()),
                    format!("--host-resolver-rules=MAP {host} {}", site.address.ip()),
                ],
                "mobileEmulation": {
                    "deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 2, "touch": true},
                    "userAgent": self.agent,
                },
            },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
        let connected = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}/")).await
        });
        let client = connected.unwrap_or_else(|e| {
            let _ = driver.kill();
            let _ = driver.wait();
            panic!("{}'s browser: {e}", self.name)
        });
        let site = site.clone();
        let mut phone =
            Phone { plan: self, runtime, client: Some(client), driver, site, authenticator: None, _home: home };
        if phone.plan.authenticator {
            phone.add_authenticator();
        }
        phone.dark(phone.plan.dark);
        phone
    }
}

/// Puts the CA into the browser's certificate store, which lies in HOME.
fn trust(home: &Path, ca: &[u8]) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).expect("a certificate store");
    let pem = home.join("ca.pem");
    let text = BASE64_MIME.encode(ca);
    std::fs::write(&pem, format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")).expect("ca.pem");
    let database = format!("sql:{}", store.display());
    let certutil = |args: &[&str]| {
        let status = Command::new("certutil").args(["-d", &database]).args(args).status().expect("certutil starts");
        assert!(status.success(), "certutil {args:?}: {status}");
    };
    certutil(&["-N", "--empty-password"]);
    certutil(&["-A", "-t", "C,,", "-n", "twinlock", "-i", &pem.display().to_string()]);
}

/// Starts chromedriver in a process group of its own, on a port that it picks.
fn start_driver(home: &Path) -> (Child, u16) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", home)
        .env("TMPDIR", home)
        .env_remove("DISPLAY")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver starts");
    let mut output = BufReader::new(driver.stdout.take().expect("its output"));
    let mut line = String::new();
    while output.read_line(&mut line).expect("its output") > 0 {
        if let Some((_, port)) = line.trim_end().rsplit_once("successfully on port ") {
            let port = port.trim_end_matches('.').parse().expect("a port");
            // Drained for as long as it lives, so that it never waits for a reader.
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return (driver, port);
        }
        line.clear();
    }
    let status = driver.wait();
    panic!("chromedriver ended without a port: {status:?}");
}

impl Phone {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("until it is dropped")
    }

    #[track_caller]
    fn command(&self, method: Method, path: &str, body: Value) -> Value {
        self.try_command(method, path, body).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.plan.name))
    }

    fn try_command(&self, method: Method, path: &str, body: Value) -> Result<Value, CmdError> {
        let command = Wire { method, path: path.to_owned(), body };
        self.runtime.block_on(self.client().issue_cmd(command))
    }

    #[track_caller]
    fn devtools(&self, command: &str, params: Value) -> Value {
        self.command(Method::POST, "goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    fn add_authenticator(&mut self) {
        let added = self.command(
            Method::POST,
            "webauthn/authenticator",
            json!({
                "protocol": "ctap2_1", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
                "isUserConsenting": true, "isUserVerified": true,
                "defaultBackupEligibility": self.plan.synced, "defaultBackupState": self.plan.synced,
            }),
        );
        self.authenticator = Some(added.as_str().expect("an authenticator id").to_owned());
    }

    /// The finger that does not match: every gesture fails from now on, or works again.
    pub fn finger_matches(&self, matches: bool) {
        let id = self.authenticator.as_deref().expect("an authenticator");
        self.command(Method::POST, &format!("webauthn/authenticator/{id}/uv"), json!({"isUserVerified": matches}));
    }

    /// The person does not touch the sensor: prompts stay open. Or touches it at once again.
    pub fn finger_waits(&self, waits: bool) {
        let id = self.authenticator.as_deref().expect("an authenticator");
        let what = json!({"authenticatorId": id, "enabled": !waits});
        self.devtools("WebAuthn.setAutomaticPresenceSimulation", what);
    }

    /// A smaller or larger screen, 360 points wide.
    pub fn height(&self, points: u32) {
        let metrics = json!({"width": 360, "height": points, "deviceScaleFactor": 2, "mobile": true});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Whether the page may be dark.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Runs a script in the page as a debugger would, and waits for its promise.
    #[track_caller]
    pub fn run(&self, script: &str, args: &[Value]) -> Value {
        let wrapped = format!(
            "const done = arguments[arguments.length - 1]; (async (...args) => {{ {script} }})(...arguments).then(v => done([v ?? null]), e => done(String(e)));"
        );
        let answer = self.runtime.block_on(self.client().execute_async(&wrapped, args.to_vec()));
        match answer.unwrap_or_else(|e| panic!("{}: {e}", self.plan.name)) {
            Value::Array(mut value) if value.len() == 1 => value.remove(0),
            error => panic!("{}: {error}", self.plan.name),
        }
    }

    /// Opens an address as the camera or a messenger would.
    #[track_caller]
    pub fn open(&self, address: &str) {
        let opened = self.runtime.block_on(self.client().goto(address));
        opened.unwrap_or_else(|e| panic!("{}: {address}: {e}", self.plan.name));
    }

    /// Opens a path of the site.
    #[track_caller]
    pub fn open_path(&self, path: &str) {
        self.open(&format!("{}{path}", self.site.origin));
    }

    /// Goes back in the history.
    pub fn back(&self) {
        self.command(Method::POST, "back", json!({}));
    }

    /// The address and the text inside the first frame of the document.
    #[track_caller]
    #[must_use]
    pub fn inside_frame(&self) -> String {
        self.command(Method::POST, "frame", json!({"id": 0}));
        let inside = self.run("return location.href + ' ' + document.body.innerText", &[]);
        self.command(Method::POST, "frame", json!({"id": null}));
        inside.as_str().unwrap_or_default().trim_end().to_owned()
    }

    /// A slow 4G network (150 ms to and fro, 1.6 Mbit/s) and a processor four times slower.
    pub fn slow(&self) {
        self.devtools("Network.enable", json!({}));
        let network =
            json!({"offline": false, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 94_000});
        self.devtools("Network.emulateNetworkConditions", network);
        self.devtools("Emulation.setCPUThrottlingRate", json!({"rate": 4}));
    }

    /// No network at all, or the network again.
    pub fn offline(&self, offline: bool) {
        self.devtools("Network.enable", json!({}));
        let network = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools("Network.emulateNetworkConditions", network);
    }

    /// The addresses in the session history, as the back button would find them.
    #[must_use]
    pub fn history(&self) -> Vec<String> {
        let history = self.devtools("Page.getNavigationHistory", json!({}));
        let url = |entry: &Value| entry["url"].as_str().unwrap_or_default().to_owned();
        history["entries"].as_array().map(|entries| entries.iter().map(url).collect()).unwrap_or_default()
    }

    /// The name of the screen that is shown.
    #[must_use]
    pub fn screen(&self) -> String {
        let name = self.try_command(
            Method::POST,
            "execute/sync",
            json!({"script": "return document.body?.dataset.screen ?? ''", "args": []}),
        );
        // Between two documents there is nobody to answer.
        name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits for one of these screens and says which it is.
    #[track_caller]
    pub fn wait_for(&self, screens: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let now = self.screen();
            if screens.contains(&now.as_str()) {
                return now;
            }
            if started.elapsed() > LIMIT {
                panic!("{}: no {screens:?} but {now:?}: {}\n{:?}", self.plan.name, self.text(), self.console());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Everything that can be read on the screen.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        self.run("return document.body.innerText", &[]).as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn text_of(&self, selector: &str) -> String {
        let text = self.run("return document.querySelector(args[0])?.innerText ?? ''", &[json!(selector)]);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The screen's heading.
    #[track_caller]
    #[must_use]
    pub fn heading(&self) -> String {
        self.text_of("h1")
    }

    /// What the page says went wrong, without leaving the screen.
    #[track_caller]
    #[must_use]
    pub fn note(&self) -> String {
        self.text_of(".note[role=alert]")
    }

    /// Presses a button as a finger does: where it is on the screen, or not at all.
    #[track_caller]
    pub fn press(&self, selector: &str) {
        let find = self.runtime.block_on(self.client().find(fantoccini::Locator::Css(selector)));
        let element = find.unwrap_or_else(|e| panic!("{}: {selector}: {e}: {}", self.plan.name, self.text()));
        let pressed = self.runtime.block_on(element.click());
        pressed.unwrap_or_else(|e| panic!("{}: {selector}: {e}", self.plan.name));
    }

    /// Types into a field.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.run(
            "const f = document.querySelector(args[0]); f.scrollIntoView(); f.value = ''; f.focus()",
            &[json!(selector)],
        );
        let find = self.runtime.block_on(self.client().find(fantoccini::Locator::Css(selector)));
        let element = find.unwrap_or_else(|e| panic!("{}: {selector}: {e}", self.plan.name));
        let typed = self.runtime.block_on(element.send_keys(text));
        typed.unwrap_or_else(|e| panic!("{}: {selector}: {e}", self.plan.name));
    }

    /// Scrolls through the whole page as a reader does, half a screen at a time.
    pub fn read_on(&self) {
        self.run(
            "const m = document.querySelector('main'); const frame = () => new Promise(requestAnimationFrame);
             for (m.scrollTop = 0; ; m.scrollTop += m.clientHeight / 2) {
               for (let i = 0; i < 4; i++) await frame();
               if (m.scrollTop + m.clientHeight >= m.scrollHeight - 1) break;
             }
             for (let i = 0; i < 4; i++) await frame();",
            &[],
        );
    }

    /// Holds keys that were made outside: the passkey in the authenticator, the device key in the
    /// browser's storage.
    pub fn hold(&self, keys: &Keys) {
        let id = self.authenticator.as_deref().expect("an authenticator");
        let host = self.site.origin.trim_start_matches("https://").split(':').next().expect("a host");
        let credential_id = keys.device.credential_id.0.to_text();
        self.command(
            Method::POST,
            &format!("webauthn/authenticator/{id}/credential"),
            json!({
                "credentialId": credential_id, "isResidentCredential": true, "rpId": host, "signCount": 0,
                "privateKey": BASE64URL_NOPAD.encode(&keys.passkey_pkcs8),
                "userHandle": BASE64URL_NOPAD.encode(keys.person.as_bytes()),
            }),
        );
        self.open_path("/assets/icon.svg");
        self.run(
            "const key = await crypto.subtle.importKey('pkcs8', Uint8Array.from(atob(args[1]), c => c.charCodeAt(0)),
               {name: 'ECDSA', namedCurve: 'P-256'}, false, ['sign']);
             const done = r => new Promise((y, n) => { r.onsuccess = () => y(r.result); r.onerror = () => n(r.error) });
             const open = indexedDB.open('twinlock', 1);
             open.onupgradeneeded = () => open.result.createObjectStore('keys', {keyPath: 'credential_id'});
             const db = await done(open);
             await done(db.transaction('keys', 'readwrite').objectStore('keys')
               .put({credential_id: args[0], rp_id: args[2], key, public_key: args[3]}));
             db.close();",
            &[
                json!(credential_id),
                json!(BASE64.encode(&keys.device_key_pkcs8)),
                json!(host),
                json!(keys.device.device_key.map(|key| key.to_text())),
            ],
        );
    }

    /// Opens an enrolment link and enrols; ends in the waiting room.
    #[track_caller]
    pub fn enrol(&self, link: &str) {
        self.open(link);
        self.wait_for(&["enrol"]);
        self.press("#actions .main");
        // The room may already have given way to the roster.
        let shown = self.wait_for_or_note(&["room", "roster", "end-good"]);
        assert!(shown.is_some(), "{} could not enrol: {}", self.plan.name, self.note());
    }

    /// Waits for the roster, reads all of it and signs; says what was shown.
    #[track_caller]
    pub fn sign_roster(&self) -> String {
        self.wait_for(&["roster"]);
        self.read_on();
        let text = self.text();
        self.press("#actions .main");
        let shown = self.wait_for_or_note(&["room", "end-good"]);
        assert!(shown.is_some(), "{} could not sign: {}", self.plan.name, self.note());
        text
    }

    #[track_caller]
    pub(crate) fn wait_for_or_note(&self, screens: &[&str]) -> Option<String> {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            let now = self.screen();
            if screens.contains(&now.as_str()) {
                return Some(now);
            }
            if !self.note().is_empty() {
                return None;
            }
            std::thread::sleep(POLL);
        }
        panic!("{}: neither {screens:?} nor a note: {}", self.plan.name, self.text());
    }

    /// Signs in with the passkey, on a screen that asks for it.
    #[track_caller]
    pub fn sign_in(&self) {
        self.wait_for(&["sign-in"]);
        self.press("#actions .main");
        let started = Instant::now();
        while self.screen() == "sign-in" {
            assert!(self.note().is_empty(), "{} could not sign in: {}", self.plan.name, self.note());
            assert!(started.elapsed() < LIMIT, "{} could not sign in", self.plan.name);
            std::thread::sleep(POLL);
        }
    }

    /// Opens a scanned code, signs in if asked, and waits for the request.
    #[track_caller]
    pub fn scan(&self, address: &str) {
        self.open(address);
        if self.wait_for(&["sign-in", "request", "problem", "key-lost", "end-calm", "end-bad"]) == "sign-in" {
            self.sign_in();
        }
        self.wait_for(&["request"]);
    }

    /// Reads the request on the screen, to its end.
    #[track_caller]
    #[must_use]
    pub fn read_request(&self) -> Shown {
        self.wait_for(&["request"]);
        let ready = "return !document.querySelector('.approve').hasAttribute('aria-disabled')";
        // One look's time, in which nobody scrolls.
        std::thread::sleep(Duration::from_millis(150));
        let ready_at_once = self.run(ready, &[]) == json!(true);
        self.read_on();
        let shown = self.run(
            "const all = s => [...document.querySelectorAll(s)].map(e => e.innerText);
             return [all('h1')[0], all('.warnings li'), all('blockquote')[0] ?? null, all('figcaption')[0] ?? null,
               all('dl > div').map((_, i) => all('dt')[i] + ': ' + all('dd')[i]), all('.argv li'),
               all('.argv mark'), all('.choices label')]",
            &[],
        );
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| -> Vec<String> {
            value.as_array().map(|all| all.iter().filter_map(text).collect()).unwrap_or_default()
        };
        Shown {
            heading: text(&shown[0]).unwrap_or_default(),
            warnings: list(&shown[1]),
            reason: text(&shown[2]).zip(text(&shown[3])),
            facts: list(&shown[4]),
            command: list(&shown[5]),
            marked: list(&shown[6]),
            lives: list(&shown[7]),
            ready_at_once,
        }
    }

    /// Reads to the end and approves; the heading of what comes next.
    #[track_caller]
    pub fn approve(&self) -> String {
        self.wait_for(&["request"]);
        self.read_on();
        self.press(".approve");
        self.answered()
    }

    /// Denies, with a reason or without; the heading of what comes next.
    #[track_caller]
    pub fn deny(&self, reason: Option<&str>) -> String {
        self.wait_for(&["request"]);
        if let Some(reason) = reason {
            self.type_into("#deny-reason", reason);
        }
        self.press(".deny");
        self.answered()
    }

    #[track_caller]
    fn answered(&self) -> String {
        let shown = self.wait_for_or_note(&["end-good", "end-bad", "end-calm", "problem", "key-lost"]);
        assert!(shown.is_some(), "{} could not answer: {}", self.plan.name, self.note());
        self.heading()
    }

    /// In the inbox: picks the first request whose card holds `words`, types the terminal's code.
    /// Shows the request, or says what the page said.
    ///
    /// # Errors
    /// The page's note, when it is not the right code.
    #[track_caller]
    pub fn inbox_code(&self, words: &str, code: &str) -> Result<(), String> {
        if self.wait_for(&["sign-in", "inbox"]) == "sign-in" {
            self.sign_in();
            self.wait_for(&["inbox"]);
        }
        let find = "return [...document.querySelectorAll('.card')].findIndex(c => c.innerText.includes(args[0]))";
        let started = Instant::now();
        let at = loop {
            let at = self.run(find, &[json!(words)]).as_i64().unwrap_or(-1);
            if at >= 0 {
                break at + 1;
            }
            assert!(started.elapsed() < LIMIT, "{}: no {words:?} in the inbox: {}", self.plan.name, self.text());
            std::thread::sleep(POLL);
        };
        self.press(&format!(".cards li:nth-child({at}) .card"));
        self.wait_for(&["code"]);
        self.type_code(code)
    }

    /// Types the terminal's code on the screen that asks for it.
    ///
    /// # Errors
    /// The page's note, or the heading of where it went, when it is not the right code.
    #[track_caller]
    pub fn type_code(&self, code: &str) -> Result<(), String> {
        self.type_into("#code", code);
        self.press("#actions .main");
        match self.wait_for_or_note(&["request", "end-calm", "problem"]).as_deref() {
            Some("request") => Ok(()),
            Some(_) => Err(self.heading()),
            None => Err(self.note()),
        }
    }

    /// A picture of the screen, PNG, 720×1480.
    #[track_caller]
    pub fn screenshot(&self, path: &Path) {
        let png = self.runtime.block_on(self.client().screenshot()).expect("a screenshot");
        std::fs::write(path, png).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Deletes the site's storage and cookies, as "clear browsing data" does. Passkeys stay.
    pub fn clear_storage(&self) {
        let what = json!({"origin": self.site.origin, "storageTypes": "all"});
        self.devtools("Storage.clearDataForOrigin", what);
    }

    /// Deletes the browser's own keys only.
    pub fn clear_keys(&self) {
        let what = json!({"origin": self.site.origin, "storageTypes": "indexeddb"});
        self.devtools("Storage.clearDataForOrigin", what);
    }

    /// Deletes the site's cookies only.
    pub fn clear_cookies(&self) {
        let what = json!({"origin": self.site.origin, "storageTypes": "cookies"});
        self.devtools("Storage.clearDataForOrigin", what);
    }

    /// Everything that the browser's console got since the last call, as `SOURCE LEVEL: text`.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let log = self.command(Method::POST, "se/log", json!({"type": "browser"}));
        let entry = |entry: &Value| {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", part("source"), part("level"), part("message"))
        };
        log.as_array().map(|log| log.iter().map(entry).collect()).unwrap_or_default()
    }

    /// Broken promises of the page since the last call: violations of its security policy, errors
    /// in scripts. Answers 4xx of the API are not among them.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        // The browser's own pages and its advice about RS256 are not ours.
        let foreign = |line: &String| line.contains("chrome://") || line.contains("pubKeyCredParams");
        let network = |line: &String| line.starts_with("network ");
        self.console().into_iter().filter(|line| !network(line) && !foreign(line)).collect()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        // Ending the session ends the browser; the driver follows by its own pid.
        if let Some(client) = self.client.take() {
            let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), client.close()).await });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
