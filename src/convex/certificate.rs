//! Why the certificate of a server was not accepted. Starting the server or correcting its URL would
//! not help, so each reason has a kind, and each kind a remedy.

use std::error::Error;
use std::io;

use rustls::CertificateError::{
    BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
    NotValidYetContext, UnknownIssuer,
};

use crate::config;
use crate::record::failure::{Failure, FailureKind};

/// The failure, if a request to the deployment `name` failed because of certificates.
pub(super) fn failure(error: &reqwest::Error, name: &str) -> Option<Failure> {
    let tls = tls_error(error)?;
    let sources = config::certificate_sources(&config::environment());
    let (kind, why) = describe(tls, error.is_builder(), sources.as_deref())?;
    Some(Failure::new(kind, format!("could not reach {name}: {why}")))
}

/// The error of TLS among the causes. Errors of the connection contain it, but do not name it as
/// their source.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The kind of the failure, and what is wrong. If `is_setup`, no request was sent and no server
/// certificate was seen, so the authorities are missing. `sources` are the variables that name the
/// authorities.
fn describe(
    error: &rustls::Error,
    is_setup: bool,
    sources: Option<&str>,
) -> Option<(FailureKind, String)> {
    let error = match error {
        rustls::Error::InvalidCertificate(error) => error,
        _ if is_setup => {
            let from = sources.unwrap_or("this system");
            return Some((
                FailureKind::NoRootCertificates,
                format!("no certificate authorities could be read from {from}"),
            ));
        }
        _ => return None,
    };
    Some(match error {
        // A signature is bad if the trusted authority of that name has another key.
        UnknownIssuer | BadSignature => {
            let from = sources.map(|sources| format!(" ({sources})"));
            let why = "its certificate is from an authority that this machine does not trust";
            (
                FailureKind::UntrustedCertificate,
                format!("{why}{}", from.unwrap_or_default()),
            )
        }
        NotValidForName | NotValidForNameContext { .. } => (
            FailureKind::CertificateNameMismatch,
            "its certificate is for another name".to_owned(),
        ),
        Expired | ExpiredContext { .. } => (
            FailureKind::InvalidCertificate,
            "its certificate has expired".to_owned(),
        ),
        NotValidYet | NotValidYetContext { .. } => (
            FailureKind::InvalidCertificate,
            "its certificate is not valid yet".to_owned(),
        ),
        other => (
            FailureKind::InvalidCertificate,
            format!("its certificate is not valid: {other:?}"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_remedy_of_its_own() {
        for (error, why, remedy) in [
            (
                UnknownIssuer,
                "does not trust (SSL_CERT_FILE=/x)",
                "add that authority",
            ),
            (NotValidForName, "is for another name", "correct the URL"),
            (Expired, "has expired", "replace"),
            (NotValidYet, "is not valid yet", "replace"),
            (rustls::CertificateError::Revoked, "Revoked", "replace"),
        ] {
            let error = rustls::Error::InvalidCertificate(error);
            let (kind, said) = describe(&error, false, Some("SSL_CERT_FILE=/x")).unwrap();
            assert!(said.ends_with(why), "{said}");
            assert!(kind.remedy().unwrap().starts_with(remedy), "{kind:?}");
        }
        let other = rustls::Error::General("nothing".to_owned());
        assert_eq!(describe(&other, false, None), None);
        let (kind, said) = describe(&other, true, Some("SSL_CERT_DIR=/x")).unwrap();
        assert_eq!(kind, FailureKind::NoRootCertificates);
        assert!(said.ends_with("from SSL_CERT_DIR=/x"), "{said}");
    }
}
