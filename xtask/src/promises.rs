//! Each promise in `docs/semantics.md` names the tests that would fail if it were broken, and those
//! tests exist.

use std::fs;
use std::path::{Path, PathBuf};

/// A test that a promise names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    file: String,
    test: String,
}

/// The promises of a page, each with the tests that it names: items of lists, which end with
/// ``Tests: `crate/file: name, name`, `...` ``.
fn promises(page: &str) -> Vec<(String, Vec<Named>)> {
    let mut items: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("- ") {
            items.push(text.to_owned());
            is_inside = true;
        } else if let (true, Some(text), Some(item)) =
            (is_inside, line.strip_prefix("  "), items.last_mut())
        {
            item.push(' ');
            item.push_str(text.trim());
        } else {
            is_inside = false;
        }
    }
    let with_tests = |item: String| {
        let Some((promise, tests)) = item.split_once("\\ Tests: ") else {
            return (item, Vec::new());
        };
        let quoted = tests.split('`').skip(1).step_by(2);
        let named = quoted.flat_map(|quoted| {
            let (file, names) = quoted.split_once(": ").unwrap_or((quoted, ""));
            let named = names.split(", ").map(|test| Named {
                file: file.to_owned(),
                test: test.to_owned(),
            });
            named.collect::<Vec<_>>()
        });
        (promise.to_owned(), named.collect())
    };
    items.into_iter().map(with_tests).collect()
}

/// Where a file of tests may lie.
fn places(file: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match file.split_once('/') {
        Some(("e2e", rest)) => vec![root.join(format!("tests/tests/{rest}.rs"))],
        Some((name, rest)) => ["tests", "src"]
            .map(|part| root.join(format!("crates/{name}/{part}/{rest}.rs")))
            .to_vec(),
        None => Vec::new(),
    }
}

/// Whether a file has a test of this name: a function, or a line of a table.
fn has(text: &str, test: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let function = line
            .strip_prefix("fn ")
            .and_then(|line| line.strip_prefix(test));
        let entry = line.strip_prefix(test);
        !test.is_empty()
            && (function.is_some_and(|rest| rest.starts_with('('))
                || entry.is_some_and(|rest| rest.starts_with(": ")))
    })
}

#[test]
fn every_promise_names_tests_that_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/semantics.md");
    let page = fs::read_to_string(page).unwrap();
    let promises = promises(&page);
    assert!(promises.len() > 30, "{} promises", promises.len());
    let mut wrong = Vec::new();
    for (promise, named) in &promises {
        if named.is_empty() {
            wrong.push(format!("no test: {promise}"));
        }
        for Named { file, test } in named {
            let texts = places(file)
                .into_iter()
                .filter_map(|place| fs::read_to_string(place).ok());
            if !texts.into_iter().any(|text| has(&text, test)) {
                wrong.push(format!("there is no `{file}: {test}`: {promise}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_promise_without_a_test_and_one_whose_test_is_gone_are_found() {
    let page =
        "Text.\n\n- One\n  line.\\\n  Tests: `a/b: one, two`,\n  `c/d: three`\n- None.\n\nMore.\n";
    let named = |file: &str, test: &str| Named {
        file: file.to_owned(),
        test: test.to_owned(),
    };
    let all = vec![
        named("a/b", "one"),
        named("a/b", "two"),
        named("c/d", "three"),
    ];
    let expected = [
        ("One line.".to_owned(), all),
        ("None.".to_owned(), Vec::new()),
    ];
    assert_eq!(promises(page), expected);
    let text = "async fn one() {}\n    two: nothing, other;\n// three()";
    assert!(has(text, "one") && has(text, "two"));
    assert!(!has(text, "three") && !has(text, "on") && !has(text, ""));
}
