//! The program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    immutag::telemetry::start();
    let load = || {
        let mut sources = immutag::config::Sources::of_process();
        let args: Vec<String> = std::env::args().collect();
        for pair in args.windows(2) {
            if pair[0] == "--config" {
                sources.path = Some(pair[1].clone().into());
            }
            if pair[0] == "--data-dir" {
                sources.data_dir = Some(pair[1].clone().into());
            }
        }
        immutag::config::load(sources)
    };
    let config = match load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    match runtime.block_on(immutag::serve::serve(config, false, load)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
