//! Queries: any text can be asked for any parameter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_server::parse::Query;

fuzz_target!(|text: &str| {
    let query = Query::new(text);
    for name in ["digest", "tag", "n", "", text] {
        let all: Vec<_> = query.all(name).collect();
        let first = all.first().filter(|value| !value.is_empty());
        assert_eq!(query.get(name).as_ref(), first);
        assert!(all.len() <= text.split('&').count());
    }
    // What is escaped byte for byte comes back as it was.
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let whole = format!("a=b&tag={escaped}&c");
    assert_eq!(Query::new(&whole).all("tag").collect::<Vec<_>>(), [text]);
});
