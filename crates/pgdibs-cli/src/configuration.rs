//! `pgdibs config`: every setting, its value and its origin.

use serde_json::json;

use super::args::ConfigArgs;
use super::context::Context;
use super::error::CliError;
use super::output::message;
use super::table::table;

/// Shows the configuration.
///
/// # Errors
/// The configuration is wrong.
pub(super) fn show(context: &Context, args: ConfigArgs) -> Result<(), CliError> {
    let loaded = context.load(args.flags)?;
    for warning in &loaded.warnings {
        message(&format!("warning: {warning}"));
    }
    if context.output.is_json() {
        let settings: Vec<_> = loaded
            .rows
            .iter()
            .map(|row| json!({"setting": row.setting, "value": row.value, "origin": row.origin.to_string()}))
            .collect();
        let file = loaded.file.map(|file| file.display().to_string());
        return context.output.json(&json!({"file": file, "settings": settings, "warnings": loaded.warnings}));
    }
    let rows = loaded.rows.into_iter().map(|row| vec![row.setting, row.value, row.origin.to_string()]).collect();
    context.output.text(&table(&["SETTING", "VALUE", "FROM"], rows, context.output.colour))
}
