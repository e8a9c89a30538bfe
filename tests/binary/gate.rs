//! A gate in front of a backend: it passes calls through, or treats them as broken servers and
//! networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the gate does to a connection.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Passes it through to the backend.
    None,
    /// Reads what arrives and never answers, not even a TLS handshake.
    Silence,
    /// Reads ten kilobytes a second.
    SlowRead,
    /// Answers with `first`, then with `rest` over and over.
    Endless {
        first: &'static str,
        rest: &'static str,
        delay: Duration,
    },
    /// Announces a long answer with this status, sends part of it, and closes.
    CutOff(u16),
    /// Closes before the request is read.
    Slam,
    /// Answers with status 200 and the body for the number of the connection.
    Numbered(fn(usize) -> String),
    /// Never answers a request with a body of more than this many bytes, and passes others through to
    /// the backend.
    TooSlow(usize),
    /// Passes mutations through to the backend after this time, and everything else at once.
    LateMutations(Duration),
    /// Answers with a status line, headers and body.
    Answer { head: String, body: Vec<u8> },
}

impl Fault {
    /// An answer with this status, as from Convex or a proxy in front of it.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Answer {
            head: format!("HTTP/1.1 {status} Fault\r\nContent-Type: application/json"),
            body: body.as_bytes().to_vec(),
        }
    }
}

/// Listens until it is dropped.
pub struct Gate {
    pub url: String,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl Gate {
    /// A gate in front of `backend` (`http://127.0.0.1:<port>`), or without a backend.
    pub fn open(backend: Option<&str>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), backend)
    }

    /// The same at a given address.
    pub fn at(address: SocketAddr, backend: Option<&str>) -> Self {
        Self::of(TcpListener::bind(address).unwrap(), backend)
    }

    /// The same on a socket.
    pub fn of(listener: TcpListener, backend: Option<&str>) -> Self {
        let address = listener.local_addr().unwrap();
        let backend: Option<SocketAddr> =
            backend.map(|url| url.strip_prefix("http://").unwrap().parse().unwrap());
        let fault = Arc::new(Mutex::new(Fault::None));
        let (connections, is_over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let shared = (
            Arc::clone(&fault),
            Arc::clone(&connections),
            Arc::clone(&is_over),
        );
        let listening = thread::spawn(move || {
            let (fault, connections, is_over) = shared;
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let fault = fault.lock().unwrap().clone();
                // The other side can close at any time.
                thread::spawn(move || {
                    stream.and_then(|stream| serve(stream, &fault, backend, number))
                });
            }
        });
        Self {
            url: format!("http://{address}"),
            fault,
            connections,
            is_over,
            address,
            listening: Some(listening),
        }
    }

    /// Sets what it does from now on.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.listening.take().unwrap().join();
    }
}

fn serve(
    mut stream: TcpStream,
    fault: &Fault,
    backend: Option<SocketAddr>,
    number: usize,
) -> std::io::Result<()> {
    match fault {
        Fault::None => pass(&stream, &[], backend),
        Fault::Slam => stream.shutdown(Shutdown::Both),
        Fault::Silence => {
            read_request(&mut stream)?;
            // Until the other side closes the connection.
            std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
        }
        Fault::SlowRead => {
            while stream.read(&mut [0; 1024])? > 0 {
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
        Fault::Endless { first, rest, delay } => {
            read_request(&mut stream)?;
            stream.write_all(first.as_bytes())?;
            loop {
                stream.write_all(rest.as_bytes())?;
                thread::sleep(*delay);
            }
        }
        Fault::CutOff(status) => {
            read_request(&mut stream)?;
            write!(
                stream,
                "HTTP/1.1 {status} Cut\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{{\"status\":\"succ"
            )
        }
        Fault::Numbered(body) => {
            let answer = Fault::status(200, &body(number));
            serve(stream, &answer, backend, number)
        }
        Fault::TooSlow(bytes) => {
            let request = read_request(&mut stream)?;
            if request.len() > *bytes {
                return std::io::copy(&mut stream, &mut std::io::sink()).map(drop);
            }
            pass_alone(&stream, &request, backend)
        }
        Fault::LateMutations(delay) => {
            let request = read_request(&mut stream)?;
            if request.starts_with(b"POST /api/mutation") {
                thread::sleep(*delay);
            }
            pass_alone(&stream, &request, backend)
        }
        Fault::Answer { head, body } => {
            read_request(&mut stream)?;
            write!(
                stream,
                "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            stream.write_all(body)
        }
    }
}

/// Passes a request through, and no other on this connection: the next one needs a new connection,
/// so that it is seen here, too.
fn pass_alone(
    stream: &TcpStream,
    request: &[u8],
    backend: Option<SocketAddr>,
) -> std::io::Result<()> {
    let head = request.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
    let request = [&request[..head], b"Connection: close\r\n", &request[head..]];
    pass(stream, &request.concat(), backend)
}

/// Passes what was read already, and then everything else, through to the backend.
fn pass(stream: &TcpStream, read: &[u8], backend: Option<SocketAddr>) -> std::io::Result<()> {
    let Some(backend) = backend else {
        return stream.shutdown(Shutdown::Both);
    };
    let mut upstream = TcpStream::connect(backend)?;
    upstream.write_all(read)?;
    let (mut from, mut to) = (stream.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    std::io::copy(&mut &upstream, &mut &*stream)?;
    stream.shutdown(Shutdown::Both)
}

fn read_request(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 8 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request);
        let whole = text.split_once("\r\n\r\n").map(|(head, _)| {
            let body = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            });
            head.len() + 4 + body.unwrap_or(0)
        });
        if length == 0 || whole.is_some_and(|whole| request.len() >= whole) {
            return Ok(request);
        }
    }
}

/// A server with its own certificate that answers every request with success. It serves one
/// connection after another until the process ends.
pub struct TlsServer {
    pub url: String,
    /// As PEM.
    pub certificate: String,
    requests: Arc<AtomicUsize>,
}

impl TlsServer {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// With a certificate that names a list of revoked certificates, at this URL.
    #[cfg(windows)]
    pub fn start_with_revocation_list(url: &str) -> Self {
        Self::start_with(Some(url))
    }

    fn start_with(list: Option<&str>) -> Self {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let mut authority = rcgen::CertificateParams::default();
        let name = &mut authority.distinguished_name;
        name.push(rcgen::DnType::CommonName, "authority of the test");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let own_key = rcgen::KeyPair::generate().unwrap();
        let chain = match list {
            None => vec![params.self_signed(&own_key).unwrap()],
            Some(url) => {
                params.crl_distribution_points = vec![rcgen::CrlDistributionPoint {
                    uris: vec![url.to_owned()],
                }];
                let issuer = rcgen::Issuer::from_params(&authority, &authority_key);
                let own = params.signed_by(&own_key, &issuer).unwrap();
                vec![own, authority.self_signed(&authority_key).unwrap()]
            }
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(own_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                chain.iter().map(|one| one.der().clone()).collect(),
                key.unwrap(),
            )
            .unwrap();
        let (config, requests) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream);
                // The handshake fails if the client does not trust the certificate.
                if read_request(&mut stream).is_ok() {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let body = r#"{"status":"success","value":null}"#;
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self {
            url,
            certificate: chain[0].pem(),
            requests,
        }
    }

    /// How many requests arrived so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
