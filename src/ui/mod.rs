//! Tables and pages for users.
//!
//! Everything that comes from a session is escaped before it is printed: prompts, answers, paths
//! and branches can contain terminal control sequences.

mod chart;
mod check;
mod delivery;
mod page;
mod reasons;
mod screen;
mod session;
mod summary;
mod table;
mod text;
mod usage;
mod workflow;

pub use self::check::{Check, Outcome, check_table};
pub use self::screen::Screen;
pub use self::session::{ListedSession, session_ids, session_lines, session_page, session_table};
pub use self::summary::summary;
pub use self::text::{
    ago, escape, escape_block, file_time, json_line, plural, references, short_id,
};
pub use self::usage::{UsageScreen, usage_csv, usage_json};
pub use self::workflow::{ListedWorkflow, workflow_page, workflow_table};
