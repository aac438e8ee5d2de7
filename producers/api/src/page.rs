//! Pages of a list whose newest items come first, in the order of their ids.

use axum::http::Uri;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::cursor::{Cursors, List};
use crate::find::{DEFAULT_LIMIT, read_cursor, read_limit};
use crate::problem::Problem;
use crate::query::Parameters;

/// What is read by [`Page::read`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
pub struct PageParameters {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u8>,
    /// `next_cursor` of the page before.
    #[param(max_length = 2000)]
    cursor: Option<String>,
}

/// Which page of a list is asked for.
#[derive(Debug)]
pub struct Page {
    resource: &'static str,
    user_id: Uuid,
    limit: usize,
    /// The last item of the page before.
    pub after: Option<Uuid>,
}

impl Page {
    /// Reads the query of a request for the person's list of a resource.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        uri: &Uri,
        cursors: &Cursors,
        resource: &'static str,
        user_id: Uuid,
    ) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(uri)?;
        let limit = parameters.one("limit", read_limit).unwrap_or(DEFAULT_LIMIT);
        let after = parameters.one("cursor", |place, value| {
            read_cursor(place, value, cursors, list(resource, user_id))
        });
        parameters.finish()?;
        Ok(Self {
            resource,
            user_id,
            limit: limit.into(),
            after,
        })
    }

    /// How many rows to ask for: one more than are shown tells whether there is a next page.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// Cuts what was found to the page. Returns where the next one starts, if there is one.
    ///
    /// # Errors
    /// When there can be no cursor: a bug of this crate.
    pub fn cut<T>(
        &self,
        found: &mut Vec<T>,
        cursors: &Cursors,
        id: impl Fn(&T) -> Uuid,
    ) -> Result<Option<String>, Problem> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| more);
        last.map(|last| cursors.seal(list(self.resource, self.user_id), &id(last)))
            .transpose()
    }
}

fn list(resource: &'static str, user_id: Uuid) -> List<'static> {
    List {
        resource,
        user_id,
        query: "",
    }
}
