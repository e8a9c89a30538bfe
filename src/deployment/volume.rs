//! Settings that are made only for the volume of a new backend.

use anyhow::Result;

use super::compose::Compose;
use crate::system::files::TextFile;

/// The volume with the backend's data, as Docker knows it.
const VOLUME: &str = "convex-sidecar_data";
/// How long old revisions are kept.
const RETENTION: &str = "DOCUMENT_RETENTION_DELAY";
/// Two days, in seconds, as in upstream's compose file. Each delivery replaces a document, and the
/// backend's own default, two weeks or more, keeps every revision.
const TWO_DAYS: u32 = 172_800;
/// With these variables, the data is elsewhere and may already exist.
const ELSEWHERE: [&str; 2] = ["POSTGRES_URL", "MYSQL_URL"];

/// Sets the retention in `.env` if the backend will get a new volume, because changing it for old
/// data can leave a backend stuck. Returns whether it did.
pub fn set_retention(compose: &Compose) -> Result<bool> {
    let filter = format!("name={VOLUME}");
    let volumes = compose.ask(&["volume", "ls", "--quiet", "--filter", &filter])?;
    let is_new = volumes.is_some_and(|volumes| volumes.lines().all(|volume| volume != VOLUME));
    let variables = compose.file_variables()?;
    let is_set = |name: &str| variables.iter().any(|(set, _)| set == name);
    if !is_new || is_set(RETENTION) || ELSEWHERE.iter().any(|name| is_set(name)) {
        return Ok(false);
    }
    let file = TextFile::read(compose.variables_file())?;
    let before = file.text.as_deref().unwrap_or_default();
    let gap = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let text = format!("{before}{gap}{RETENTION}={TWO_DAYS}\n");
    if file.text.is_some() {
        file.write(&text)?;
    } else {
        file.write_private(&text)?;
    }
    Ok(true)
}
