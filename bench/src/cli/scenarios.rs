//! `scenarios`: what there is to run.

use crate::failure::Failure;
use crate::scenario::Scenario;

/// See the module.
#[derive(Debug, clap::Args)]
pub(super) struct ScenariosArguments {
    /// Prints this scenario as a file: the beginning of one of your own.
    scenario: Option<String>,
}

pub(super) fn list(arguments: &ScenariosArguments) -> Result<(), Failure> {
    if let Some(name) = &arguments.scenario {
        print!("{}", Scenario::find(name)?.to_toml());
        return Ok(());
    }
    for scenario in Scenario::built_in() {
        println!("{:<10} {}", scenario.name, scenario.description);
        for variant in &scenario.variants {
            println!("{:<10}   - {}", "", variant.label);
        }
    }
    Ok(())
}
