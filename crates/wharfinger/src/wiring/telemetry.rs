//! What the process says of itself.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use wharfinger_config::{Config, Formatter, Hook, Level as ConfigLevel, Log};
use wharfinger_telemetry::{LogOptions, MailError, MailOptions, Mails, Telemetry, Traces};

use super::{Unusable, unusable};
use crate::serve::StartError;

/// Starts lines, mails and traces. It must be called within a runtime.
pub(crate) fn telemetry(config: &Config) -> Result<Telemetry, StartError> {
    let traces = Traces::from_environment(env!("CARGO_PKG_VERSION"))?;
    let mails = mails(&config.log.hooks)?;
    Ok(Telemetry::start(log_options(&config.log), mails, traces))
}

/// How lines are written.
pub(crate) fn log_options(log: &Log) -> LogOptions {
    let levels = log.levels.iter();
    LogOptions {
        level: filter(log.level.unwrap_or_default()),
        levels: levels
            .map(|(module, level)| (module.clone(), filter(*level)))
            .collect(),
        formatter: match log.formatter {
            Formatter::Text => wharfinger_telemetry::Formatter::Text,
            Formatter::Json => wharfinger_telemetry::Formatter::Json,
            Formatter::Logstash => wharfinger_telemetry::Formatter::Logstash,
        },
        fields: log.fields.clone().into_iter().collect(),
        caller: log.reportcaller,
    }
}

fn level(level: ConfigLevel) -> Level {
    match level {
        ConfigLevel::Error => Level::ERROR,
        ConfigLevel::Warn => Level::WARN,
        ConfigLevel::Info => Level::INFO,
        ConfigLevel::Debug => Level::DEBUG,
    }
}

fn filter(of: ConfigLevel) -> LevelFilter {
    LevelFilter::from_level(level(of))
}

fn mails(hooks: &[Hook]) -> Result<Vec<Mails>, Unusable> {
    let hooks = hooks.iter().enumerate().filter(|(_, hook)| !hook.disabled);
    hooks
        .map(|(index, hook)| {
            let options = &hook.options;
            let (host, port) = options.smtp.addr.rsplit_once(':').unwrap_or_default();
            let started = Mails::start(MailOptions {
                levels: hook.levels().into_iter().map(level).collect(),
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().unwrap_or_default(),
                username: options.smtp.username.clone(),
                password: options.smtp.password.expose().to_owned(),
                insecure: options.smtp.insecure,
                from: options.from.clone(),
                to: options.to.clone(),
            });
            started.map_err(|error| {
                let key = format!("log.hooks[{index}].options");
                let key = match &error {
                    MailError::From(_) => format!("{key}.from"),
                    MailError::To(to, _) => format!("{key}.to[{to}]"),
                    MailError::Server(_) => format!("{key}.smtp.addr"),
                };
                unusable(key)(&error)
            })
        })
        .collect()
}
