//! `config show` and `config check`, and the flags that every setting has.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Subcommand};

use super::exit::{Output, print, print_json, table};
use super::{EXIT_CODES, Outcome};
use crate::config::{self, Loaded, Sources};
use crate::server::StartError;
use crate::tls::Reloader;

/// A flag for each setting, made from the table of settings, and `--config`.
#[derive(Debug, Clone, Default)]
pub struct ConfigFlags {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// What was given, by the setting's name.
    pub values: Vec<(&'static str, String)>,
}

impl ConfigFlags {
    /// Reads file, environment and these flags.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self) -> Result<Loaded, config::ConfigError> {
        config::load(&Sources::of_process(self.file.clone(), self.values.clone()))
    }
}

impl Args for ConfigFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("URINGEST_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file to read [default: none]");
        let mut command = command.arg(file);
        for key in config::keys() {
            let mut arg = Arg::new(key.name)
                .long(key.flag())
                .value_name((key.placeholder)())
                .action(ArgAction::Set)
                .help(format!("{} [default: {}] [env: {}]", key.help(), (key.default)(), key.env()))
                .allow_hyphen_values(true);
            if (key.is_switch)() {
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            if !key.is_common() {
                arg = arg.hide_short_help(true).help_heading("Every other setting");
            }
            command = command.arg(arg);
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &'static config::Key| {
            let text = matches.get_one::<String>(key.name)?;
            Some((key.name, text.clone()))
        };
        let file = matches.get_one::<PathBuf>("config").cloned();
        Ok(ConfigFlags { file, values: config::keys().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `config ...`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

const SHOW_EXAMPLE: &str = "Examples:\n  uringest config show --config uringest.toml\n  \
    uringest config show --template > uringest.toml\n";
const CHECK_EXAMPLE: &str = "Example:\n  uringest config check uringest.toml && systemctl restart uringest\n";

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints every setting, its value, and where the value comes from.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{SHOW_EXAMPLE}\n{EXIT_CODES}"))]
    Show {
        #[command(flatten)]
        flags: ConfigFlags,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Prints the configuration as a file that gives the same.
        #[arg(long, conflicts_with_all = ["output", "template"])]
        toml: bool,
        /// Prints a file of all defaults, commented, to start from.
        #[arg(long, conflicts_with = "output")]
        template: bool,
    },
    /// Checks a file as `serve` would, together with the environment and the certificates it names.
    #[command(after_help = EXIT_CODES, after_long_help = format!("{CHECK_EXAMPLE}\n{EXIT_CODES}"))]
    Check {
        /// The TOML file.
        file: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// The configuration's faults, or standard output's.
pub fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        ConfigCommand::Show { template: true, .. } => print(&config::template()),
        ConfigCommand::Show { flags, toml: true, .. } => print(&flags.load()?.config.to_toml()),
        ConfigCommand::Show { flags, output, .. } => show(&flags.load()?, output),
        ConfigCommand::Check { file } => {
            let name = file.display().to_string();
            let config = config::load(&Sources::of_process(Some(file), Vec::new()))?.config;
            config.tls.server().map(Reloader::new).transpose().map_err(StartError::Tls)?;
            print(&format!("{name}: sound\n"))
        }
    }
}

fn show(loaded: &Loaded, output: Output) -> Outcome {
    let shown = loaded.shown();
    if output == Output::Json {
        return print_json(&serde_json::json!({
            "settings": shown,
            "certificates": loaded.config.tls.certificates.iter().map(|files| &files.certificate).collect::<Vec<_>>(),
            "topics": loaded.config.topic.iter().map(|topic| &topic.name).collect::<Vec<_>>(),
            "tenants": loaded.config.tenant.iter().map(|tenant| &tenant.name).collect::<Vec<_>>(),
        }));
    }
    let from = |one: &config::Shown| if one.at.is_empty() { one.from.to_owned() } else { one.at.clone() };
    let rows: Vec<_> =
        shown.iter().map(|one| vec![one.key.to_owned(), one.value.clone(), from(one)]).collect();
    let mut text = table(&["SETTING", "VALUE", "FROM"], &[], &rows);
    for files in &loaded.config.tls.certificates {
        text += &format!("[[tls.certificates]] {}\n", files.certificate.display());
    }
    for topic in &loaded.config.topic {
        text += &format!("[[topic]] {}: {} partitions\n", topic.name, topic.partitions);
    }
    for tenant in &loaded.config.tenant {
        text += &format!(
            "[[tenant]] {}: {} tokens, {} rules\n",
            tenant.name,
            tenant.tokens.len(),
            tenant.rules.len()
        );
    }
    print(&text)
}
