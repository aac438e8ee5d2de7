//! Pages of a list: how many items one has, and behind which item it starts.

use axum::http::Uri;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::cursor::{Cursors, List};
use crate::input::{Place, read};
use crate::problem::Problem;
use crate::query::Parameters;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

/// What is read by [`Page::take`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
pub struct PageParameters {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u8>,
    /// `next_cursor` of the page before. It is good for the same person, filters and order only.
    #[param(max_length = 2000)]
    cursor: Option<String>,
}

/// Which page of a list is asked for. `P` is a position in the list: what tells where an item stands in its order.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<P> {
    resource: &'static str,
    user_id: Uuid,
    query: String,
    /// Most items.
    pub limit: usize,
    /// The last item of the page before.
    pub after: Option<P>,
}

impl<P: Serialize + DeserializeOwned> Page<P> {
    /// Reads the query of a request for the person's whole list of a resource.
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
        let page = Self::take(&mut parameters, cursors, resource, user_id, String::new());
        parameters.finish()?;
        Ok(page)
    }

    /// Takes the parameters that say which page. `query` is the list's filters and order in one text: a cursor is good for
    /// these only.
    pub fn take(
        parameters: &mut Parameters,
        cursors: &Cursors,
        resource: &'static str,
        user_id: Uuid,
        query: String,
    ) -> Self {
        let limit = parameters.one("limit", |place, value| read_limit(place, value, MAX_LIMIT));
        let mut page = Self {
            resource,
            user_id,
            query,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            after: None,
        };
        page.after = parameters.one("cursor", |place, value| {
            let opened = cursors.open(page.list(), &read::string(place, value)?);
            opened.or_else(|| place.refuse("is not the next_cursor of a page of this very list"))
        });
        page
    }

    /// How many rows to ask for: one more than are shown tells whether there is a next page.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).unwrap_or(i64::MAX)
    }

    /// Cuts what was found to the page. Returns its last item, if another page follows.
    pub fn cut<'t, T>(&self, found: &'t mut Vec<T>) -> Option<&'t T> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        found.last().filter(|_| more)
    }

    /// The cursor of a position in this list.
    ///
    /// # Errors
    /// When there can be none: a bug of this crate.
    pub fn cursor(&self, cursors: &Cursors, position: &P) -> Result<String, Problem> {
        cursors.seal(self.list(), position)
    }

    fn list(&self) -> List<'_> {
        List {
            resource: self.resource,
            user_id: self.user_id,
            query: &self.query,
        }
    }
}

/// How many items are asked for, from 1 to `max`.
pub fn read_limit(place: &mut Place<'_>, value: Value, max: usize) -> Option<usize> {
    let limit = read::string(place, value)?.parse().ok();
    limit
        .filter(|limit| (1..=max).contains(limit))
        .or_else(|| place.refuse(format!("must be a number from 1 to {max}")))
}
