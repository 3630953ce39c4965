//! The configuration file and the environment: any text gives a configuration or says what is
//! wrong, and what is printed of one that can start is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // The first line is a variable of the environment, the rest the file.
    let (variable, file) = text.split_once('\n').unwrap_or(("", text));
    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
    let environment = [(format!("REGISTRY_{name}"), value.to_owned())];
    let Ok(loaded) = wharfinger_config::parse("config.yml", file, environment) else {
        return;
    };
    let printed = loaded.config.to_yaml();
    if !loaded.problems.is_empty() {
        return;
    }
    let again = wharfinger_config::parse("printed.yml", &printed, [])
        .unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.config.to_yaml(), printed);
});
