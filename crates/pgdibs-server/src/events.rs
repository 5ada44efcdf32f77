//! Events: the bus, its readers, the log. Reading order: the modules as listed, from the bottom to the top.

mod history;
mod known;
mod log;
mod bus;
mod reader;

pub(crate) use self::bus::now;
pub use self::bus::{Events, KEPT, Loss, Record, frame};
pub use self::reader::Reader;

#[cfg(test)]
mod tests;
