//! How long Convex keeps sessions: a variable of the deployment, which its functions read
//! (`convex/model/retention.ts`).

use std::str::FromStr;

use anyhow::{Error, Result, bail};

use super::variables;
use crate::config::Deployment;
use crate::convex::client::{Call, Convex};
use crate::system::deadline::Deadline;

/// The variable.
pub const VARIABLE: &str = "CONVEX_SIDECAR_RETENTION_DAYS";
/// The highest number of days that the functions accept.
const MOST_DAYS: u32 = 99_999;

/// How long sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// This many days after their last change.
    Days(u32),
    /// Forever.
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
    /// What happens to sessions, as a message.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Days(1) => "sessions are deleted one day after their last change".to_owned(),
            Self::Days(days) => {
                format!("sessions are deleted {days} days after their last change")
            }
            Self::Off => "sessions are kept forever".to_owned(),
        }
    }

    /// Sets the variable, and begins to delete what is older.
    pub fn set(self, deployment: &Deployment) -> Result<()> {
        let value = match self {
            Self::Days(days) => Some(days.to_string()),
            Self::Off => None,
        };
        variables::set(deployment, VARIABLE, value.as_deref())?;
        if self == Self::Off {
            return Ok(());
        }
        let call = Call::mutation("agents:deleteExpiredSessions", "{}")?;
        let failure = Convex::new(deployment, Deadline::never())
            .call(&call)
            .into_failure();
        failure.map_or(Ok(()), |failure| {
            Err(Error::new(failure).context("could not delete the sessions that are older"))
        })
    }
}
