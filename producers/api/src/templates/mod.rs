//! Templates: tasks to be, with dates relative to a day.

mod input;
pub mod store;
mod template;
pub mod view;

pub use input::TemplateInput;
pub use template::{Content, Due, Template, create, patch, task_body};
