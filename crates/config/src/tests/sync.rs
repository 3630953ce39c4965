//! `sync`.

use super::*;

#[test]
fn a_job_that_cannot_be_done_is_named_with_its_place() {
    let from = "from: {remoteurl: 'https://r.example.org'}";
    let job = format!("name: a, images: [x], {from}");
    let config = good(&format!("{LEAST}sync: {{jobs: [{{{job}}}]}}\n"), &[]);
    let read = &config.sync.jobs[0];
    assert!(read.referrers && read.parallelism == 4 && read.interval.is_zero());
    for (jobs, said) in [
        (
            format!("{{images: [x], {from}}}"),
            "sync.jobs[0].name: it is missing",
        ),
        (
            format!("{{name: 'a/b', images: [x], {from}}}"),
            "sync.jobs[0].name: a name is made",
        ),
        (
            format!("{{{job}}}, {{{job}}}"),
            "sync.jobs[1].name: sync.jobs[0] is called",
        ),
        (
            "{name: a, images: [x]}".to_owned(),
            "sync.jobs[0]: it needs either from",
        ),
        (
            format!("{{{job}, to: {{remoteurl: 'http://h'}}}}"),
            "sync.jobs[0]: it needs either from",
        ),
        (
            "{name: a, images: [x], to: {remoteurl: h}}".to_owned(),
            "sync.jobs[0].to.remoteurl: this is no URL",
        ),
        (
            "{name: a, images: [x], from: {remoteurl: 'http://h', password: s-e-cret}}".to_owned(),
            "sync.jobs[0].from.username: ",
        ),
        (
            format!("{{name: a, {from}}}"),
            "sync.jobs[0].images: it is missing",
        ),
        (
            format!("{{{job}, interval: 6}}"),
            "sync.jobs[0].interval: it is shorter",
        ),
        (
            format!("{{{job}, parallelism: 0}}"),
            "sync.jobs[0].parallelism: it must be",
        ),
        (
            format!("{{{job}, platforms: [linux/amd64]}}"),
            "sync.jobs[0].platforms: an index is kept",
        ),
        (
            format!("{{{job}, delete: tags}}"),
            "sync.jobs[0].delete: nothing can be deleted",
        ),
    ] {
        let found = wrong(&format!("{LEAST}sync: {{jobs: [{jobs}]}}\n"), &[]);
        assert!(found.contains(said), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
}
