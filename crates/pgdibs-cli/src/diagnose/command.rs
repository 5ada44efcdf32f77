//! Finds pytest in the user's command, so that options can be added to it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The user's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserCommand {
    pub(crate) words: Vec<OsString>,
    /// The place of the first argument of pytest; `None` for another program.
    pytest: Option<usize>,
}

/// Programs whose arguments are names of their own, not commands: a word `pytest` there starts no pytest that inherits variables.
const RUNNERS: [&str; 8] = ["make", "tox", "nox", "docker", "podman", "sh", "bash", "grep"];

impl UserCommand {
    pub(crate) fn new(words: &[OsString]) -> Self {
        let is_runner = words.first().is_some_and(|word| RUNNERS.contains(&name_of(word)));
        let module = words.windows(2).position(|pair| pair[0] == "-m" && is_pytest(&pair[1])).map(|at| at + 2);
        let program = words.iter().position(|word| is_pytest(word)).map(|at| at + 1);
        Self { words: words.to_vec(), pytest: module.or(program).filter(|_| !is_runner) }
    }

    pub(crate) fn is_pytest(&self) -> bool {
        self.pytest.is_some()
    }

    /// The command with options added behind its own, which they override.
    pub(crate) fn with(&self, options: &[&str]) -> Vec<OsString> {
        let mut words = self.words.clone();
        let arguments = self.pytest.unwrap_or(words.len());
        // Behind `--` pytest takes all words for files.
        let end = words.iter().skip(arguments).position(|word| word == "--").map_or(words.len(), |at| arguments + at);
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        words.splice(end..end, options);
        words
    }

    /// Whether the command itself names this option or value.
    pub(crate) fn names(&self, text: &str) -> bool {
        self.words.iter().any(|word| word.to_string_lossy().contains(text))
    }

    /// The program without the words that set variables before it.
    pub(crate) fn program(&self) -> Option<&OsString> {
        let mut words = self.words.iter();
        let first = words.next()?;
        if name_of(first) != "env" {
            return Some(first);
        }
        words.find(|word| !word.to_string_lossy().contains('='))
    }
}

fn name_of(word: &OsStr) -> &str {
    Path::new(word).file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn is_pytest(word: &OsStr) -> bool {
    matches!(name_of(word), "pytest" | "py.test" | "pytest-3")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> UserCommand {
        UserCommand::new(&text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_go_behind_those_of_pytest() {
        for (text, with) in [
            ("pytest tests -n 4", "pytest tests -n 4 -n 0"),
            ("python -m pytest tests", "python -m pytest tests -n 0"),
            ("/x/.venv/bin/pytest", "/x/.venv/bin/pytest -n 0"),
            ("env A=b uv run --frozen pytest -- tests", "env A=b uv run --frozen pytest -n 0 -- tests"),
            ("poetry run python -X dev -m pytest -k x", "poetry run python -X dev -m pytest -k x -n 0"),
            ("uv run -- pytest tests", "uv run -- pytest tests -n 0"),
            ("coverage run -m pytest tests", "coverage run -m pytest tests -n 0"),
        ] {
            let command = command(text);
            assert!(command.is_pytest(), "{text}");
            let words: Vec<String> =
                command.with(&["-n", "0"]).iter().map(|word| word.to_string_lossy().into_owned()).collect();
            assert_eq!(words.join(" "), with);
        }
    }

    #[test]
    fn other_programs_are_no_pytest() {
        for text in ["npm test", "go test ./...", "make pytest", "python manage.py test", "tox -e pytest", "true"] {
            assert!(!command(text).is_pytest(), "{text}");
        }
        assert_eq!(command("env A=b C=d npm test").program(), Some(&OsString::from("npm")));
    }
}
