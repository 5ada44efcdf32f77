//! A daemon that is only an embedded server, for tests that kill it: `embedded_server DATA_DIR LINGER_MILLISECONDS [BIN_DIR]` prints
//! each stage of the start and runs until it is killed. Like pgdibs, it is also the supervisor program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use pgdibs_embedded::{DEFAULT_MAX_CONNECTIONS, EmbeddedOptions, SupervisorArgs, start, supervise};
use pgdibs_postgres::public_connect::PgProbe;

fn main() -> ExitCode {
    if let Some(args) = SupervisorArgs::recognise(std::env::args_os()) {
        return supervise(args);
    }
    let mut args = std::env::args_os().skip(1);
    let (Some(data_dir), Some(linger)) = (args.next(), args.next()) else {
        return ExitCode::from(2);
    };
    let Some(Ok(linger)) = linger.to_str().map(str::parse) else {
        return ExitCode::from(2);
    };
    let (Ok(supervisor_exe), Ok(runtime)) = (std::env::current_exe(), tokio::runtime::Runtime::new()) else {
        return ExitCode::FAILURE;
    };
    let options = EmbeddedOptions {
        data_dir: Some(PathBuf::from(data_dir)),
        bin_dir: args.next().map(PathBuf::from),
        listen: None,
        linger: Duration::from_millis(linger),
        max_connections: DEFAULT_MAX_CONNECTIONS,
        supervisor_exe,
    };
    runtime.block_on(async {
        match start(&options, &PgProbe, |stage| println!("{stage}")).await {
            Ok(server) => {
                println!("serving");
                server.exited().await;
                println!("exited");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        }
    })
}
