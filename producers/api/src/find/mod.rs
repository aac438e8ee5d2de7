//! Finding tasks: what a request asks for (`query`), how its words are meant (`question`), where its pages start
//! (`position`), and the SQL that answers it (`sql`).

mod position;
mod query;
mod question;
mod sql;

pub use query::Find;
pub use sql::find;
