//! The parts of Convex's HTTP API that are used: function calls with the admin key, and what a
//! deployment says about itself. The only user of reqwest.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use url::Host;

use super::answer::{Verdict, excerpt, verdict};
use super::certificate;
use super::identity::{Answer, Unidentified};
use crate::config::Deployment;
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;
use crate::system::listener::{self, ForeignUser};

/// How long connecting may take, so that a dead server costs a hook little time.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long connecting may take if a name has to be resolved first: twice as long.
const RESOLVE_AND_CONNECT_TIMEOUT: Duration = Duration::from_millis(600);
/// How long a request may take if no hook waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a query's answer is read, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// How much of a mutation's answer is read, in bytes: a receipt, or an error, which can repeat a
/// document of up to 1 MiB.
const MAX_MUTATION_ANSWER: u64 = 4 * 1024 * 1024;

/// How much of an answer that should be a single word is read, in bytes: enough for the title of a
/// web page.
const MAX_BEGINNING: u64 = 16 * 1024;

/// The client of each URL that was called. Clients are never dropped: dropping one joins its
/// thread, which can be stuck in the system's resolver or certificate check for longer than any
/// deadline.
static CLIENTS: Mutex<BTreeMap<String, Client>> = Mutex::new(BTreeMap::new());

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    route: &'static str,
    path: &'static str,
    max_answer: u64,
    body: String,
}

impl Call {
    /// A call of the query `path` with these arguments, JSON.
    pub fn query(path: &'static str, args: &str) -> Result<Self> {
        Self::new("api/query", path, MAX_ANSWER, args)
    }

    /// A call of the mutation `path` with these arguments, JSON.
    pub fn mutation(path: &'static str, args: &str) -> Result<Self> {
        Self::new("api/mutation", path, MAX_MUTATION_ANSWER, args)
    }

    fn new(route: &'static str, path: &'static str, max_answer: u64, args: &str) -> Result<Self> {
        #[derive(Serialize)]
        struct Body<'a> {
            format: &'a str,
            path: &'a str,
            args: &'a RawValue,
        }
        let body = Body {
            format: "json",
            path,
            args: serde_json::from_str(args).context("could not read stored JSON")?,
        };
        Ok(Self {
            route,
            path,
            max_answer,
            body: serde_json::to_string(&body)?,
        })
    }

    /// The function's name.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// The request without the key, for display.
    #[must_use]
    pub fn describe(&self, deployment: &Deployment) -> String {
        let names = deployment.headers.keys();
        let headers: String = names.flat_map(|name| [name.as_str(), ": …\n"]).collect();
        format!(
            "POST {}{}\nAuthorization: Convex …\n{headers}{}",
            deployment.url, self.route, self.body
        )
    }
}

/// A deployment to call.
#[derive(Debug, Clone, Copy)]
pub struct Convex<'a> {
    deployment: &'a Deployment,
    deadline: Deadline,
}

impl<'a> Convex<'a> {
    /// A deployment; all calls to it end by `deadline`. Nothing is sent yet.
    #[must_use]
    pub const fn new(deployment: &'a Deployment, deadline: Deadline) -> Self {
        Self {
            deployment,
            deadline,
        }
    }

    /// The name of the server's instance, which its admin keys start with. Every deployment answers
    /// this request, with or without a key, and no other server does.
    pub fn instance(&self) -> Result<String, Unidentified> {
        let response = self.get("instance_name").map_err(Unidentified::NoAnswer)?;
        let header = |name| {
            let value = response.headers().get(name);
            let text = value.and_then(|value| value.to_str().ok());
            text.unwrap_or_default().to_owned()
        };
        let (location, content_type) = (header(LOCATION), header(CONTENT_TYPE));
        let answer = Answer {
            status: response.status().as_u16(),
            location: &self.deployment.hidden_in(&location),
            content_type: &content_type,
            body: &self.deployment.hidden_in(&beginning(response)),
        };
        answer
            .instance()
            .map_err(|what| Unidentified::NotConvex(what, self.deployment.name().to_owned()))
    }

    /// The version that a deployment reports. No key is needed.
    pub fn version(&self) -> Result<String, Failure> {
        let response = self.get("version")?;
        let is_success = response.status().is_success();
        let text = self.deployment.hidden_in(&excerpt(&beginning(response)));
        Ok(if !is_success || text.is_empty() || text == "unknown" {
            "version unknown".to_owned()
        } else {
            format!("version {text}")
        })
    }

    /// Whether the server knows the route of the Convex CLI's push, which newer backends have. The
    /// request is incomplete and changes nothing.
    pub fn knows_push(&self) -> Result<bool, Failure> {
        let response = self.send(|client, url| {
            client
                .post(format!("{url}api/deploy2/evaluate_push"))
                .header(CONTENT_TYPE, "application/json")
                .body("{}")
        })?;
        Ok(response.status() != StatusCode::NOT_FOUND)
    }

    fn get(&self, path: &str) -> Result<Response, Failure> {
        self.send(|client, url| client.get(format!("{url}{path}")))
    }

    /// Whether the server accepts the key, whether or not its functions are deployed: it checks the
    /// key before it looks for the function.
    pub fn accepts_key(&self) -> Result<bool> {
        let call = Call::query("agents:getAgentSession", "{}")?;
        match self.call(&call) {
            Verdict::Failed(failure) => match failure.kind {
                FailureKind::Unauthorized => Ok(false),
                FailureKind::Undeployed
                | FailureKind::Paused
                | FailureKind::Refused
                | FailureKind::TooLarge
                | FailureKind::Unexplained => Ok(true),
                _ => Err(failure).with_context(|| {
                    format!(
                        "could not check the admin key at {}",
                        self.deployment.name()
                    )
                }),
            },
            Verdict::Success(_)
            | Verdict::NotFound
            | Verdict::UnknownField { .. }
            | Verdict::TimeIsAhead { .. } => Ok(true),
        }
    }

    /// Sets a variable of the deployment, or removes it.
    pub fn set_variable(&self, name: &str, value: Option<&str>) -> Result<(), Failure> {
        let changes = json!({ "changes": [{ "name": name, "value": value }] });
        let call = Call {
            route: "api/update_environment_variables",
            path: "",
            max_answer: MAX_BEGINNING,
            body: changes.to_string(),
        };
        let (status, body) = self.post(&call)?;
        let refused = (status != 200).then(|| verdict(status, &body).into_failure());
        refused.flatten().map_or(Ok(()), |mut failure| {
            failure.message = self.deployment.hidden_in(&failure.message);
            Err(failure)
        })
    }

    /// Makes one call. All failures are part of the [`Verdict`].
    #[must_use]
    pub fn call(&self, call: &Call) -> Verdict {
        match self.post(call) {
            Ok((status, body)) => {
                let mut verdict = verdict(status, &body);
                if let Some(failure) = verdict.failure_mut() {
                    failure.message = self.deployment.hidden_in(&failure.message);
                }
                verdict
            }
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// Makes one call. Returns the status of the answer and its body.
    fn post(&self, call: &Call) -> Result<(u16, Vec<u8>), Failure> {
        let mut authorization = HeaderValue::from_str(&self.deployment.key.authorization())
            .map_err(|error| {
                Failure::new(
                    FailureKind::Unauthorized,
                    format!("could not send the admin key: {error}"),
                )
            })?;
        authorization.set_sensitive(true);
        let response = self.send(|client, url| {
            client
                .post(format!("{url}{}", call.route))
                .header(AUTHORIZATION, authorization)
                .header(CONTENT_TYPE, "application/json")
                .header(
                    "convex-client",
                    concat!("convex-sidecar-", env!("CARGO_PKG_VERSION")),
                )
                .body(call.body.clone())
        })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        match response.take(call.max_answer).read_to_end(&mut body) {
            Ok(_) => Ok((status, body)),
            // The status alone says whether a request failed or was refused.
            Err(_) if !matches!(status, 200 | 560) => Ok((status, body)),
            Err(error) => match error.downcast::<reqwest::Error>() {
                Ok(error) if error.is_timeout() => Err(self.unreachable(&error)),
                _ => Err(Failure::new(FailureKind::Failing, "the answer was cut off")),
            },
        }
    }

    /// Sends a request and waits for the head of its answer. The remaining time limits both this
    /// and reading the body.
    fn send(
        &self,
        prepare: impl FnOnce(&Client, &str) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        self.ensure_no_foreign_listener()?;
        let client = self.client()?;
        let timeout = self.remaining()?;
        prepare(&client, self.deployment.url.as_str())
            .headers(self.deployment.headers.clone())
            .timeout(timeout)
            .send()
            .map_err(|error| self.unreachable(&error))
    }

    /// Fails if a program of another user listens where the deployment should: it would get the
    /// key.
    fn ensure_no_foreign_listener(&self) -> Result<(), Failure> {
        let Some(why) = self
            .deployment
            .unproven_address()
            .and_then(|(address, port)| listener::foreign_user(address, port))
        else {
            return Ok(());
        };
        let name = self.deployment.name();
        let message = match why {
            ForeignUser::Id(id) => {
                format!(
                    "sent nothing to {name}, because a program of another user (ID {id}) listens there"
                )
            }
            ForeignUser::Hidden => format!(
                "sent nothing to {name}, because too many programs listen on this machine to tell which user's program has the port"
            ),
        };
        Err(Failure::new(FailureKind::ForeignListener, message))
    }

    fn remaining(&self) -> Result<Duration, Failure> {
        match self.deadline.remaining(REQUEST_TIMEOUT) {
            Duration::ZERO => Err(Failure::new(
                FailureKind::Failing,
                "no time was left to send the request",
            )),
            remaining => Ok(remaining),
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(self.deployment.url.as_str()) {
            return Ok(client.clone());
        }
        let client = self.build_client()?;
        clients.insert(self.deployment.url.to_string(), client.clone());
        Ok(client)
    }

    fn build_client(&self) -> Result<Client, Failure> {
        // An error only means that a provider was already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connect_timeout = match self.deployment.url.host() {
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => CONNECT_TIMEOUT,
            _ => RESOLVE_AND_CONNECT_TIMEOUT,
        };
        let mut builder = Client::builder()
            .connect_timeout(connect_timeout)
            .redirect(Policy::none())
            .timeout(None);
        if self.deployment.is_loopback() {
            builder = builder.no_proxy();
        }
        // Windows gives ::1 first and takes 300 ms to notice that nothing listens there: Docker
        // publishes the ports on 127.0.0.1 alone. Port 0 stands for that of the URL.
        if cfg!(windows) && self.deployment.url.host_str() == Some("localhost") {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            builder = builder.resolve_to_addrs("localhost", &both.map(|ip| (ip, 0).into()));
        }
        if self.deployment.url.scheme() == "http" {
            // Reading the system's certificates takes longer than the rest of the hook.
            return builder
                .tls_certs_only([])
                .build()
                .map_err(|error| self.unreachable(&error));
        }
        // Reading them can also take arbitrarily long, and reqwest waits for that without a limit.
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(builder.build()));
        match receiver.recv_timeout(self.remaining()?) {
            Ok(client) => client.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(Failure::new(
                FailureKind::Failing,
                "could not read the system's certificates in time",
            )),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if let Some(failure) = certificate::failure(error, self.deployment.name()) {
            return failure;
        }
        let (kind, why) = match (error.is_timeout(), error.is_connect()) {
            (false, _) => (FailureKind::Unreachable, root_cause(error)),
            (true, true) => (
                FailureKind::Unreachable,
                "the connection timed out".to_owned(),
            ),
            (true, false) => (FailureKind::TimedOut, "no answer in time".to_owned()),
        };
        let message = format!("could not reach {}: {why}", self.deployment.name());
        Failure::new(kind, message)
    }
}

/// The beginning of a body, as far as it can be read.
fn beginning(response: Response) -> String {
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = response.take(MAX_BEGINNING).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last of a chain of errors; the ones before it only say which step failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, ServerConnection};
    use rustls::{SignatureScheme, crypto};

    use super::*;
    use crate::config::Config;

    /// A check that does not return, as on systems where it can wait for the network.
    #[derive(Debug)]
    struct HangingCheck(mpsc::Sender<()>);

    impl ServerCertVerifier for HangingCheck {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            let _ = self.0.send(());
            loop {
                thread::park();
            }
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    /// The URL of a server that makes one TLS handshake.
    fn tls_server() -> String {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut session = ServerConnection::new(Arc::new(config)).unwrap();
            session.complete_io(&mut stream)
        });
        url
    }

    #[test]
    fn certificate_check_that_hangs_ends_by_the_deadline() {
        let url = tls_server();
        let (checking, checks) = mpsc::channel();
        let provider = Arc::new(crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(HangingCheck(checking)))
            .with_no_client_auth();
        let environment = [
            (
                "CONVEX_SIDECAR_HOME",
                if cfg!(windows) {
                    "C:/nowhere"
                } else {
                    "/nowhere"
                },
            ),
            ("CONVEX_SELF_HOSTED_URL", &url),
            ("CONVEX_SELF_HOSTED_ADMIN_KEY", "instance|key"),
        ];
        let environment = environment.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let deployment = Config::load(&environment.into()).unwrap().deployment;
        let deployment = deployment.unwrap().unwrap();
        let client = Client::builder().tls_backend_preconfigured(tls).build();
        CLIENTS
            .lock()
            .unwrap()
            .insert(deployment.url.to_string(), client.unwrap());

        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let deadline = Deadline::never().within(Duration::from_millis(500));
            let call = Call::query("agents:getAgentSession", "{}").unwrap();
            sender.send(Convex::new(&deployment, deadline).call(&call))
        });
        let verdict = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(checks.try_recv().is_ok(), "the certificate was not checked");
        let Verdict::Failed(failure) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(failure.kind, FailureKind::TimedOut);
        assert!(failure.message.ends_with("no answer in time"), "{failure}");
    }
}
