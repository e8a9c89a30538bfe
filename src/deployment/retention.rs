//! For how long Convex keeps sessions: a variable of the deployment, which its functions read
//! (`convex/model/retention.ts`).

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use crate::config::Deployment;
use crate::convex::client::{Call, Convex};
use crate::system::deadline::Deadline;

/// The variable.
pub const VARIABLE: &str = "CONVEX_SIDECAR_RETENTION_DAYS";
/// The most days that the functions read as a number of days.
const MOST_DAYS: u32 = 99_999;

/// For how long sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// For so many days after their last change.
    Days(u32),
    /// For ever.
    Off,
}

impl FromStr for Retention {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.parse() {
            Ok(days @ 1..=MOST_DAYS) => Ok(Self::Days(days)),
            _ => bail!("expected a number of days from 1 to {MOST_DAYS}, or `off`"),
        }
    }
}

impl Retention {
    /// What happens to sessions, for people.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Days(1) => "sessions are deleted one day after their last change".to_owned(),
            Self::Days(days) => {
                format!("sessions are deleted {days} days after their last change")
            }
            Self::Off => "sessions are kept for ever".to_owned(),
        }
    }

    /// Sets the variable, and begins to delete what is older.
    pub fn set(self, deployment: &Deployment) -> Result<()> {
        let convex = Convex::new(deployment, Deadline::never());
        let value = match self {
            Self::Days(days) => Some(days.to_string()),
            Self::Off => None,
        };
        convex
            .set_variable(VARIABLE, value.as_deref())
            .with_context(|| format!("could not set {VARIABLE} in {}", deployment.name()))?;
        if self == Self::Off {
            return Ok(());
        }
        let call = Call::mutation("agents:deleteExpiredSessions", "{}")?;
        match convex.call(&call).into_failure() {
            None => Ok(()),
            Some(failure) => {
                Err(Error::new(failure).context("could not delete the sessions that are older"))
            }
        }
    }
}

/// What the variable is in this deployment; `None` if it is not set, or if the key cannot read it.
#[must_use]
pub fn variable(deployment: &Deployment) -> Option<String> {
    super::variable(deployment, VARIABLE).ok().flatten()
}
