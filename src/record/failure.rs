//! Why something did not reach Convex: a kind for code to decide on, and a message for people.

use std::fmt;

/// What kept a call from succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The server's certificate is from an authority that this machine does not trust.
    UntrustedCertificate,
    /// The server's certificate is for another name.
    CertificateNameMismatch,
    /// The server's certificate has expired, or something else is wrong with it.
    InvalidCertificate,
    /// This machine has no trusted root certificates.
    NoRootCertificates,
    /// The admin key is missing, wrong or from another instance (HTTP 401, 403).
    Unauthorized,
    /// The function does not exist in the deployment.
    Undeployed,
    /// The deployment is paused.
    Paused,
    /// The server is not a Convex deployment.
    NotConvex,
    /// The server redirects to another URL.
    Redirected,
    /// The function rejected these arguments; others may be accepted.
    Refused,
    /// The request is too large for the server, or for a proxy in front of it (HTTP 413).
    TooLarge,
    /// The function failed, and the deployment hides why (`REDACT_LOGS_TO_CLIENT`). Other arguments
    /// may be accepted.
    Unexplained,
    /// A program of another user listens on the server's port.
    ForeignListener,
    /// Anything else: the server is overloaded or broken.
    Failing,
}

impl FailureKind {
    const ALL: [Self; 16] = [
        Self::Unreachable,
        Self::TimedOut,
        Self::UntrustedCertificate,
        Self::CertificateNameMismatch,
        Self::InvalidCertificate,
        Self::NoRootCertificates,
        Self::Unauthorized,
        Self::Undeployed,
        Self::Paused,
        Self::NotConvex,
        Self::Redirected,
        Self::Refused,
        Self::TooLarge,
        Self::Unexplained,
        Self::ForeignListener,
        Self::Failing,
    ];

    /// The name under which the journal stores it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::UntrustedCertificate => "untrusted_certificate",
            Self::CertificateNameMismatch => "certificate_name_mismatch",
            Self::InvalidCertificate => "invalid_certificate",
            Self::NoRootCertificates => "no_root_certificates",
            Self::Unauthorized => "unauthorized",
            Self::Undeployed => "undeployed",
            Self::Paused => "paused",
            Self::NotConvex => "not_convex",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Unexplained => "unexplained",
            Self::ForeignListener => "stranger",
            Self::Failing => "failing",
        }
    }

    /// The kind with this name; `Failing` for a name that this version does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .unwrap_or(Self::Failing)
    }

    /// The word for a narrow column.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable | Self::TimedOut => "offline",
            Self::UntrustedCertificate
            | Self::CertificateNameMismatch
            | Self::InvalidCertificate
            | Self::NoRootCertificates => "bad cert",
            Self::Unauthorized => "bad key",
            Self::NotConvex | Self::Redirected => "bad url",
            Self::TooLarge | Self::Unexplained => "refused",
            other => other.as_str(),
        }
    }

    /// What to do about it, if that depends only on the kind.
    #[must_use]
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::UntrustedCertificate if cfg!(any(windows, target_os = "macos")) => {
                Some("add that authority to those that the system trusts")
            }
            Self::UntrustedCertificate => Some(
                "add that authority to those that the system trusts, or set SSL_CERT_FILE to a file with its certificate before the client is started",
            ),
            Self::CertificateNameMismatch => {
                Some("correct the URL, or give the server a certificate for this name")
            }
            Self::InvalidCertificate => {
                Some("replace the server's certificate, or correct the clock if that is wrong")
            }
            Self::NoRootCertificates => Some(
                "install the system's certificates (the package ca-certificates), or correct SSL_CERT_FILE or SSL_CERT_DIR if they are set",
            ),
            Self::Unauthorized => Some(
                "the admin key is missing or belongs to another instance; configure the right one, or create one with `convex-sidecar setup`",
            ),
            Self::Undeployed => {
                Some("deploy the functions with `convex-sidecar setup --skip-docker`")
            }
            Self::NotConvex => Some(
                "check that the URL is that of a Convex deployment; for an access proxy in front of it, set `headers` in config.toml",
            ),
            Self::Redirected => Some("redirects are not followed; configure the final URL"),
            Self::ForeignListener => Some(
                "run the server as yourself, as root or as a system account; if you trust that user with the key, set allow_insecure_http = true in config.toml",
            ),
            Self::Unreachable
            | Self::TimedOut
            | Self::Paused
            | Self::Refused
            | Self::TooLarge
            | Self::Unexplained
            | Self::Failing => None,
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind, for code to decide on.
    pub kind: FailureKind,
    /// What happened, without the remedy. It never contains the admin key.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A rejection of one document.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, message)
    }

    /// Whether only these arguments were rejected, so that other calls can still pass.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Refused | FailureKind::TooLarge | FailureKind::Unexplained
        )
    }
}

impl fmt::Display for Failure {
    /// The message, and the remedy if the kind has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.kind.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_by_its_name() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::from_name(kind.as_str()), kind);
        }
        assert_eq!(
            FailureKind::from_name("of a later version"),
            FailureKind::Failing
        );
    }
}
