//! A headless Chromium of its own for a test, through chromedriver: pages are opened, read and used as people do, and whatever
//! the browser complains about (a script error, a violation of the Content-Security-Policy) is heard.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use harness::{Process, eventually, free_port};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// How long people wait for a page, at most.
const SOON: Duration = Duration::from_secs(20);

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/axe");

/// A folder for screenshots of each page that is looked over, wide and narrow, light and dark.
const SHOTS: &str = "PULSEHOOK_UI_SHOTS";

/// What the browser logs of answers that a test provokes on purpose.
const PROVOKED: &str = "Failed to load resource";

/// Notes whether what is pressed next leaves the page: a form that is sent or a link that is followed, unless a script sees to it.
const WATCH: &str = "window.leaves = false; \
    const note = (event) => { \
        if (event.type === 'submit' || event.target.closest('a[href]')) window.leaves = !event.defaultPrevented; \
    }; \
    window.addEventListener('click', note); \
    window.addEventListener('submit', note);";

/// One browser, with a profile that goes when the test ends.
pub struct Browser {
    pub client: Client,
    base: String,
    port: u16,
    session: String,
    faults: Mutex<Vec<String>>,
    _driver: Process,
    _folder: tempfile::TempDir,
}

/// A command that is Chromium's own.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// A browser that begins at this address, e.g. `http://127.0.0.1:8080`.
    pub async fn start(base: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let mut driver = Process::new("chromedriver", chromedriver()).arg(format!("--port={port}"));
        driver.spawn().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,1000",
        ];
        let mut arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 60_000 },
        });
        let capabilities = capabilities.as_object().unwrap().clone();
        let url = format!("http://127.0.0.1:{port}");
        let client = eventually(SOON, async || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            let connected = builder.capabilities(capabilities.clone()).connect(&url).await;
            if let Err(error) = &connected {
                eprintln!("chromedriver: {error}");
            }
            connected.ok()
        })
        .await;
        let session = client.session_id().await.unwrap().unwrap();
        Self {
            client,
            base: base.to_owned(),
            port,
            session,
            faults: Mutex::default(),
            _driver: driver,
            _folder: folder,
        }
    }

    /// Opens a page.
    pub async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.base)).await.unwrap();
    }

    /// Signs in.
    pub async fn sign_in(&self, client_id: &str, token: &str) {
        self.open("/sign-in").await;
        self.fill("#client_id", client_id).await;
        self.fill("#access_token", token).await;
        self.press("Sign in").await;
    }

    /// The text of the page as it is seen.
    pub async fn text(&self) -> String {
        let text = self.client.execute("return document.body.innerText", Vec::new()).await.unwrap();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until this text is seen.
    #[track_caller]
    pub fn until(&self, wanted: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let started = std::time::Instant::now();
            loop {
                // Between two pages there may be none.
                let text = self.client.execute("return document.body.innerText", Vec::new()).await;
                let text = text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
                if text.contains(wanted) {
                    return;
                }
                assert!(started.elapsed() < SOON, "at {caller}: no {wanted:?} on the page:\n{text}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Types into a field, in place of what was there.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.client.wait().at_most(SOON).for_element(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Puts a long text into a field, as pasting does.
    pub async fn paste(&self, css: &str, text: &str) {
        self.client.wait().at_most(SOON).for_element(Locator::Css(css)).await.unwrap();
        let script = "const field = document.querySelector(arguments[0]); field.value = arguments[1]; \
                      field.dispatchEvent(new Event('input', {bubbles: true}));";
        self.client.execute(script, vec![json!(css), json!(text)]).await.unwrap();
    }

    /// Chooses an option by its value.
    pub async fn choose(&self, css: &str, value: &str) {
        let field = self.client.wait().at_most(SOON).for_element(Locator::Css(css)).await.unwrap();
        field.select_by_value(value).await.unwrap();
    }

    /// The value of a field.
    pub async fn value(&self, css: &str) -> String {
        let field = self.client.wait().at_most(SOON).for_element(Locator::Css(css)).await.unwrap();
        field.prop("value").await.unwrap().unwrap_or_default()
    }

    /// Presses the button, or follows the link, with this text: a button of a form rather than a link elsewhere. If that leaves the
    /// page, the next one is waited for: who goes on before it is there sees the old one, or would be taken back.
    pub async fn press(&self, text: &str) {
        let button = format!("//main//form//button[normalize-space(.)={text:?}]");
        let any = format!("//*[(self::button or self::a) and normalize-space(.)={text:?}]");
        let found = eventually(SOON, async || {
            for path in [&button, &any] {
                if let Ok(found) = self.client.find(Locator::XPath(path)).await {
                    return Some(found);
                }
            }
            None
        })
        .await;
        self.client.execute(WATCH, Vec::new()).await.unwrap();
        found.click().await.unwrap();
        let there = "return window.leaves !== true && document.readyState === 'complete'";
        eventually(SOON, async || {
            // Between two pages there may be none.
            let there = self.client.execute(there, Vec::new()).await.ok()?;
            there.as_bool()?.then_some(())
        })
        .await;
    }

    /// Whether something is on the page.
    pub async fn has(&self, css: &str) -> bool {
        !self.client.find_all(Locator::Css(css)).await.unwrap().is_empty()
    }

    /// The path of the page.
    pub async fn path(&self) -> String {
        self.client.current_url().await.unwrap().path().to_owned()
    }

    /// What the browser has complained about since it was last asked.
    pub async fn complaints(&self) -> Vec<String> {
        let log =
            self.client.issue_cmd(Own { path: "se/log", body: json!({ "type": "browser" }) }).await.unwrap();
        log.as_array()
            .into_iter()
            .flatten()
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .filter(|message| !message.contains(PROVOKED))
            .collect()
    }

    /// What keeps people out of this page, seriously or critically, as axe-core sees it.
    pub async fn barriers(&self) -> Vec<String> {
        self.client.execute(&axe(), Vec::new()).await.unwrap();
        let script = "const done = arguments[arguments.length - 1]; \
                      axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations), (error) => done([{impact: 'critical', id: String(error), nodes: []}]));";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        found
            .as_array()
            .into_iter()
            .flatten()
            .filter(|violation| matches!(violation["impact"].as_str(), Some("serious" | "critical")))
            .map(|violation| format!("{}: {}", violation["id"], violation["nodes"][0]["html"]))
            .collect()
    }

    /// Shows pages as to somebody who likes them dark, or light.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let body = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.client.issue_cmd(Own { path: "goog/cdp/execute", body }).await.unwrap();
    }

    /// Makes the page so wide, whatever the window allows.
    pub async fn width(&self, width: u32) {
        let params = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        let body = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params });
        self.client.issue_cmd(Own { path: "goog/cdp/execute", body }).await.unwrap();
    }

    /// How much wider than the window the page is, in pixels: people would have to scroll sideways.
    pub async fn overflow(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.client.execute(script, Vec::new()).await.unwrap().as_i64().unwrap()
    }

    /// Looks a page over, wide and narrow, light and dark: does it keep anybody out, is it wider than its window, does the browser
    /// complain? [`content`](Self::content) tells.
    pub async fn look_over(&self, name: &str) {
        for scheme in ["light", "dark"] {
            self.prefer(scheme).await;
            for width in [1280, 320] {
                self.width(width).await;
                for barrier in self.barriers().await {
                    self.note(format!("{name}, {scheme}, {width}: {barrier}"));
                }
                let overflow = self.overflow().await;
                if overflow > 0 {
                    self.note(format!("{name} at {width} pixels is {overflow} too wide"));
                }
                if let Ok(folder) = std::env::var(SHOTS) {
                    self.shoot(&Path::new(&folder).join(format!("{name}-{scheme}-{width}.png"))).await;
                }
            }
        }
        self.width(1280).await;
        for complaint in self.complaints().await {
            self.note(format!("{name}: {complaint}"));
        }
    }

    fn note(&self, fault: String) {
        self.faults.lock().unwrap().push(fault);
    }

    /// Nothing was wrong with any page that was looked over, and the browser has no other complaint.
    pub async fn content(&self) {
        let mut faults = self.complaints().await;
        faults.extend(self.faults.lock().unwrap().drain(..));
        assert!(faults.is_empty(), "{faults:#?}");
    }

    async fn shoot(&self, file: &Path) {
        let body = json!({ "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true } });
        let shot = self.client.issue_cmd(Own { path: "goog/cdp/execute", body }).await.unwrap();
        let data = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, data).unwrap();
    }
}

impl Drop for Browser {
    /// Ends the session however the test ended, or Chromium would stay.
    fn drop(&mut self) {
        let end = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.session
            )?;
            let mut answer = [0; 256];
            stream.read(&mut answer).map(drop)
        };
        // chromedriver is killed next, whatever it said.
        let _ = end();
    }
}

fn chromedriver() -> PathBuf {
    let found = Command::new("chromedriver").arg("--version").output();
    assert!(
        found.is_ok_and(|found| found.status.success()),
        "chromedriver is needed for the tests of the pages: install chromium and chromium-driver, or run tests/run"
    );
    "chromedriver".into()
}

/// The text of axe-core, installed once per target folder.
fn axe() -> String {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(Path::new(TOOL).join(file), folder.join(file)).unwrap();
    }
    // Written by npm as its last step.
    if !folder.join("node_modules/.package-lock.json").exists() {
        let done = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .expect("npm is needed for axe-core: install Node.js, or run tests/run");
        assert!(done.status.success(), "npm ci: {}", String::from_utf8_lossy(&done.stderr));
    }
    std::fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js")).unwrap()
}
