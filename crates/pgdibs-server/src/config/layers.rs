//! The four layers of settings (flag, variable, file, default) and the origin of what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::settings;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, named by its setting.
    Flag(&'static str),
    /// A variable, by its full name.
    Environment(String),
    /// A line of the file.
    File {
        /// The file as people know it.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(out, "flag {}", settings::flag_of(name)),
            Self::Environment(name) => write!(out, "environment {name}"),
            Self::File { path, line } => write!(out, "file {} line {line}", path.display()),
            Self::Default => out.write_str("default"),
        }
    }
}

/// A value before its setting's rule was applied. It has no `Debug`, since it may be a secret.
#[derive(Clone)]
pub enum Raw {
    /// From a flag, a variable, or a string of the file.
    Text(String),
    /// An integer of the file.
    Integer(i64),
    /// A flag that was given, or a boolean of the file.
    Boolean(bool),
    /// An array of strings of the file.
    List(Vec<String>),
}

impl Raw {
    /// For sentences about the wrong kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "an array",
        }
    }
}

/// A value and its origin.
#[derive(Clone)]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// Where.
    pub origin: Origin,
}

/// What each layer says; the default is in the table of settings.
pub struct Layers {
    /// Flags that were given, by setting.
    pub flags: BTreeMap<&'static str, Raw>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The top of the file, by key, each with its line.
    pub file: BTreeMap<String, Found<Raw>>,
}

/// The layers that somebody can write to, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Flags.
    Flag,
    /// Variables.
    Environment,
    /// The file.
    File,
}

impl Layer {
    /// Highest first.
    pub const ALL: [Self; 3] = [Self::Flag, Self::Environment, Self::File];
}

impl Layers {
    /// What one layer says about a setting. A variable that is set but empty says nothing: compose files and build systems pass
    /// variables on as empty strings when they are not set.
    pub fn in_layer(&self, layer: Layer, name: &'static str) -> Option<Found<Raw>> {
        let flag_only = settings::find(name).is_some_and(|setting| setting.flag_only);
        match layer {
            Layer::Flag => self.flags.get(name).map(|raw| Found { value: raw.clone(), origin: Origin::Flag(name) }),
            _ if flag_only => None,
            Layer::Environment => {
                let variable = settings::variable_of(name);
                let value = self.environment.get(&variable).filter(|value| !value.is_empty())?;
                Some(Found { value: Raw::Text(value.clone()), origin: Origin::Environment(variable) })
            }
            Layer::File => self.file.get(name).cloned(),
        }
    }

    /// What the highest layer that says anything says; the default otherwise.
    pub fn highest(&self, name: &'static str) -> Option<Found<Raw>> {
        Layer::ALL.iter().find_map(|layer| self.in_layer(*layer, name)).or_else(|| {
            let default = settings::find(name)?.default?;
            Some(Found { value: Raw::Text(default.to_owned()), origin: Origin::Default })
        })
    }
}
