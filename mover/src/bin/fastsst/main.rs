//! `fastsst`: send a directory tree to another machine, receive one, or verify one.

mod args;
mod certificates;
mod estimate;
mod garbd;
mod keep;
mod log;
mod private_file;
mod receive;
mod report;
mod send;
mod signals;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use fastsst_mover::{Code, Error};

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    fastsst_mover::keep_freed_memory();
    log::start(args.verbose);
    let done = match args.command {
        Command::Send(send) => send::run(send),
        Command::Receive(receive) => receive::run(receive),
        Command::Estimate(estimate) => estimate::run(estimate),
        Command::Verify(verify) => verify::run(&verify),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.code().exit_code())
        }
    }
}

/// `--help` and `--version` are no errors; everything else ends with the code of a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to say when even this cannot be printed.
    if error.print().is_err() || error.use_stderr() {
        return ExitCode::from(Error::new(Code::Usage, "usage").code().exit_code());
    }
    ExitCode::SUCCESS
}
