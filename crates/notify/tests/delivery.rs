//! Events on their way to receivers that accept, refuse, redirect, hang and close.

use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use wharfinger_notify::{Action, EventSink, Format, Receiver, UnusableReason};

mod support;

use support::*;

fn repositories(got: &[Got]) -> Vec<String> {
    got.iter().map(Got::repository).collect()
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("r{number}")).collect()
}

#[tokio::test]
async fn an_event_is_posted_alone_with_the_configured_headers() {
    let receiver = Endpoint::start([]).await;
    let mut first = options("first", &receiver.url());
    let url = format!("http://ann:secret@{}/a?b=c", receiver.address);
    first.receiver = Receiver::new(&url, [("X-One", "1"), ("X-One", "2")]).unwrap();
    let mut second = options("second", &receiver.url());
    second.format = Format::V2;
    let notifier = notifier();
    notifier.replace(vec![first]).await.unwrap();
    push(&notifier, 0).await;
    let got = receiver.wait_for(1).await.remove(0);
    assert_eq!(got.line, "POST /a?b=c HTTP/1.1");
    let v1 = "application/vnd.docker.distribution.events.v1+json";
    assert_eq!(got.header("content-type"), Some(v1));
    assert_eq!(got.header("authorization"), Some("Basic YW5uOnNlY3JldA=="));
    assert_eq!(got.header("x-one"), Some("1"));
    let values = got
        .headers
        .iter()
        .filter(|(name, _)| name == "x-one")
        .count();
    assert_eq!(values, 2);
    assert!(got.header("user-agent").unwrap().starts_with("wharfinger/"));
    assert_eq!(got.event()["action"], "push");
    assert_eq!(got.event()["source"]["addr"], "node:5000");

    notifier.replace(vec![second]).await.unwrap();
    push(&notifier, 1).await;
    let got = receiver.wait_for(2).await.remove(1);
    let v2 = "application/vnd.docker.distribution.events.v2+json";
    assert_eq!(got.header("content-type"), Some(v2));
    assert_eq!(got.event()["target"]["digest"], "");
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        4 => Just(Reply::Status(200)),
        1 => Just(Reply::Status(202)),
        1 => Just(Reply::Status(304)),
        2 => Just(Reply::Status(500)),
        1 => Just(Reply::Status(404)),
        1 => Just(Reply::Status(429)),
        2 => Just(Reply::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each event is sent until it is accepted, by 2xx or 3xx, and only then the next.
    #[test]
    fn events_arrive_in_order_whatever_is_answered(
        script in prop::collection::vec(reply(), 0..40),
        on_disk: bool,
    ) {
        let accepts = |reply: &Reply| matches!(reply, Reply::Status(200..400));
        let mut expected = Vec::new();
        let events = script.len() / 2 + 1;
        let mut answers = script.iter();
        for number in 0..events {
            loop {
                expected.push(format!("r{number}"));
                if answers.next().is_none_or(accepts) {
                    break;
                }
            }
        }
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async {
            let receiver = Endpoint::start(script.clone()).await;
            let mut options = options("e", &receiver.url());
            options.queue_folder = on_disk.then(|| folder.path().to_owned());
            let notifier = notifier();
            notifier.replace(vec![options]).await.unwrap();
            for number in 0..events {
                push(&notifier, number).await;
            }
            let got = receiver.wait_for(expected.len()).await;
            notifier.shut_down(PATIENCE).await;
            got
        });
        prop_assert_eq!(repositories(&got), expected);
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_else_and_is_given_up() {
    let hanging = Endpoint::start([Reply::Hang]).await;
    let well = Endpoint::start([]).await;
    let mut slow = options("slow", &hanging.url());
    slow.timeout = Duration::from_secs(3600);
    let notifier = notifier();
    let endpoints = vec![slow.clone(), options("well", &well.url())];
    notifier.replace(endpoints).await.unwrap();
    for number in 0..50 {
        push(&notifier, number).await;
    }
    assert_eq!(repositories(&well.wait_for(50).await), numbered(0..50));
    assert_eq!(hanging.got().len(), 1);

    // Another one hangs, and has the same event again when its time is over.
    hanging.answer([Reply::Hang]);
    let mut quick = options("quick", &hanging.url());
    quick.timeout = Duration::from_millis(50);
    notifier.replace(vec![quick]).await.unwrap();
    push(&notifier, 7).await;
    let got = hanging.wait_for(3).await;
    assert_eq!(repositories(&got[1..3]), ["r7", "r7"]);
    let counted = counted(&notifier);
    let errors = r#"events_total{type="Errors",endpoint="quick"} 1"#;
    assert!(counted.contains(errors), "{counted}");
}

#[tokio::test]
async fn too_many_failures_in_a_row_make_it_wait() {
    let failing = (0..4).map(|_| Reply::Status(503));
    let receiver = Endpoint::start(failing).await;
    let mut options = options("e", &receiver.url());
    options.threshold = 2;
    options.backoff = Duration::from_millis(200);
    let notifier = notifier();
    notifier.replace(vec![options]).await.unwrap();
    push(&notifier, 0).await;
    let got = receiver.wait_for(5).await;
    for pair in got[1..].windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_millis(190), "{pause:?}");
    }
}

#[tokio::test]
async fn what_an_endpoint_ignores_is_not_sent_to_it() {
    let receiver = Endpoint::start([]).await;
    let notifier = notifier();
    assert!(!notifier.wants(Action::Push, "t"));
    let mut options = options("e", &receiver.url());
    options.ignored_actions = vec![Action::Pull];
    options.ignored_media_types = vec!["blob".to_owned()];
    notifier.replace(vec![options]).await.unwrap();
    assert!(!notifier.wants(Action::Pull, "t"));
    assert!(!notifier.wants(Action::Push, "blob"));
    assert!(notifier.wants(Action::Delete, ""));
    for (action, media_type) in [
        (Action::Pull, "t"),
        (Action::Push, "blob"),
        (Action::Mount, "t"),
    ] {
        emit(&notifier, action, "r", media_type).wait().await;
    }
    notifier.shut_down(PATIENCE).await;
    let got = receiver.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].event()["action"], "mount");
}

#[tokio::test]
async fn a_full_queue_drops_what_comes_and_counts_it() {
    for on_disk in [false, true] {
        let folder = TempDir::new().unwrap();
        let receiver = Endpoint::start(vec![Reply::Status(500); 3]).await;
        let mut options = options("e", &receiver.url());
        options.backoff = Duration::from_secs(3600);
        options.queue_size = 10_000;
        options.queue_folder = on_disk.then(|| folder.path().to_owned());
        let notifier = notifier();
        notifier.replace(vec![options.clone()]).await.unwrap();
        for number in 0..100 {
            push(&notifier, number).await;
        }
        let count = |name: &str| -> usize {
            let counted = counted(&notifier);
            let name = format!("registry_notifications_{name}");
            let line = counted
                .lines()
                .find(|line| line.starts_with(&name))
                .unwrap();
            line.split_once("} ").unwrap().1.parse().unwrap()
        };
        receiver.wait_for(3).await;

        // What was there first arrives, and then there is room again.
        options.backoff = Duration::from_millis(1);
        notifier.replace(vec![options]).await.unwrap();
        eventually(|| count("pending_total") == 0).await;
        let got = repositories(&receiver.got()[3..]);
        assert!((5..95).contains(&got.len()), "{got:?}");
        let first_half = got.len() / 2;
        assert_eq!(got[..first_half], numbered(0..first_half));
        assert_eq!(count("dropped_total"), 100 - got.len());
        assert_eq!(count(r#"events_total{type="Events""#), 100);
        push(&notifier, 100).await;
        let all = receiver.wait_for(3 + got.len() + 1).await;
        assert_eq!(all.last().unwrap().repository(), "r100");
        notifier.shut_down(PATIENCE).await;
    }
}

#[tokio::test]
async fn redirects_are_followed_as_distribution_follows_them() {
    let target = Endpoint::start([]).await;
    let elsewhere = target.url().replace("127.0.0.1", "localhost");
    let same_host = format!("http://{}/moved", target.address);
    let script = [
        Reply::Redirect(307, same_host),
        Reply::Redirect(308, elsewhere),
        Reply::Redirect(302, target.url()),
        // Nowhere to go: it is accepted as it is.
        Reply::Status(302),
    ];
    let receiver = Endpoint::start(script).await;
    let mut options = options("e", &receiver.url());
    options.receiver = Receiver::new(&receiver.url(), [("Authorization", "Bearer t")]).unwrap();
    let notifier = notifier();
    notifier.replace(vec![options]).await.unwrap();
    for number in 0..4 {
        push(&notifier, number).await;
    }
    notifier.shut_down(PATIENCE).await;
    let got = target.got();
    assert_eq!(repositories(&receiver.got()), numbered(0..4));
    assert_eq!(got.len(), 3);
    assert_eq!(got[0].line, "POST /moved HTTP/1.1");
    assert_eq!(got[0].repository(), "r0");
    assert_eq!(got[0].header("authorization"), Some("Bearer t"));
    assert_eq!(got[1].repository(), "r1");
    assert_eq!(got[1].header("authorization"), None);
    assert_eq!(got[2].line, "GET /events HTTP/1.1");
    assert_eq!(got[2].header("content-type"), None);

    let receiver = Endpoint::start([]).await;
    let around = Reply::Redirect(307, receiver.url());
    receiver.answer(vec![around; 10]);
    let notifier = support::notifier();
    notifier
        .replace(vec![support::options("e", &receiver.url())])
        .await
        .unwrap();
    push(&notifier, 0).await;
    // Ten are too many, and a failure; the next attempt is accepted.
    receiver.wait_for(11).await;
    notifier.shut_down(PATIENCE).await;
    let counted = counted(&notifier);
    for line in [
        r#"events_total{type="Errors",endpoint="e"} 1"#,
        r#"events_total{type="Successes",endpoint="e"} 1"#,
    ] {
        assert!(counted.contains(line), "{counted}");
    }
}

#[tokio::test]
async fn counters_have_distributions_names() {
    let receiver = Endpoint::start([Reply::Status(500), Reply::Status(299), Reply::Close]).await;
    let notifier = notifier();
    notifier
        .replace(vec![options("e", &receiver.url())])
        .await
        .unwrap();
    push(&notifier, 0).await;
    push(&notifier, 1).await;
    notifier.shut_down(PATIENCE).await;
    let counted = counted(&notifier);
    for line in [
        "# TYPE registry_notifications_events counter",
        r#"registry_notifications_events_total{type="Events",endpoint="e"} 2"#,
        r#"registry_notifications_events_total{type="Successes",endpoint="e"} 2"#,
        r#"registry_notifications_events_total{type="Failures",endpoint="e"} 1"#,
        r#"registry_notifications_events_total{type="Errors",endpoint="e"} 1"#,
        "# TYPE registry_notifications_pending_total gauge",
        r#"registry_notifications_pending_total{endpoint="e"} 0"#,
        r#"registry_notifications_status_total{code="500 Internal Server Error",endpoint="e"} 1"#,
        r#"registry_notifications_status_total{code="299",endpoint="e"} 1"#,
        r#"registry_notifications_status_total{code="200 OK",endpoint="e"} 1"#,
        r#"registry_notifications_dropped_total{endpoint="e"} 0"#,
    ] {
        assert!(
            counted.contains(&format!("{line}\n")),
            "{line} is not in\n{counted}"
        );
    }
}

#[tokio::test]
async fn endpoints_that_stay_keep_what_waits_for_them() {
    let folder = TempDir::new().unwrap();
    let dead = Endpoint::start(vec![Reply::Status(500); 100_000]).await;
    let well = Endpoint::start([]).await;
    let mut in_memory = options("memory", &dead.url());
    let mut on_disk = options("disk", &dead.url());
    on_disk.queue_folder = Some(folder.path().to_owned());
    for options in [&mut in_memory, &mut on_disk] {
        options.backoff = Duration::from_secs(3600);
    }
    let gone = options("gone", &dead.url());
    let notifier = notifier();
    notifier
        .replace(vec![in_memory.clone(), on_disk.clone(), gone])
        .await
        .unwrap();
    for number in 0..5 {
        push(&notifier, number).await;
    }
    // The wait is over with the settings that made it wait, and a queue on disk may change its
    // endpoint's name.
    in_memory.receiver = Receiver::new(&well.url(), []).unwrap();
    on_disk.receiver = in_memory.receiver.clone();
    on_disk.name = "renamed".to_owned();
    notifier.replace(vec![in_memory, on_disk]).await.unwrap();
    let mut got = repositories(&well.wait_for(10).await);
    got.sort();
    let mut twice: Vec<_> = numbered(0..5).into_iter().chain(numbered(0..5)).collect();
    twice.sort();
    assert_eq!(got, twice);
    notifier.shut_down(PATIENCE).await;
    let counted = counted(&notifier);
    let pending: Vec<_> = counted
        .lines()
        .filter(|line| line.starts_with("registry_notifications_pending"))
        .collect();
    let mut endpoints: Vec<_> = pending
        .iter()
        .map(|line| line.split('"').nth(1).unwrap())
        .collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, ["memory", "renamed"], "{counted}");
    assert!(
        counted.contains(r#"dropped_total{endpoint="gone"} 5"#),
        "{counted}"
    );
}

#[tokio::test]
async fn a_replacement_that_cannot_be_leaves_everything_as_it_was() {
    let folder = TempDir::new().unwrap();
    let receiver = Endpoint::start([]).await;
    let mut on_disk = options("disk", &receiver.url());
    on_disk.queue_folder = Some(folder.path().to_owned());
    let other = notifier();
    other.replace(vec![on_disk.clone()]).await.unwrap();

    let notifier = notifier();
    notifier
        .replace(vec![options("e", &receiver.url())])
        .await
        .unwrap();
    let unusable = notifier
        .replace(vec![options("f", &receiver.url()), on_disk])
        .await;
    let unusable = unusable.unwrap_err();
    assert_eq!(unusable.name, "disk");
    assert!(
        matches!(unusable.reason, UnusableReason::Folder(_)),
        "{unusable}"
    );
    push(&notifier, 0).await;
    notifier.shut_down(PATIENCE).await;
    assert_eq!(receiver.got().len(), 1);
    let counted = counted(&notifier);
    assert!(
        counted.contains(r#"{type="Successes",endpoint="e"} 1"#),
        "{counted}"
    );
}

#[tokio::test]
async fn what_is_on_disk_survives_the_process_and_goes_on_in_order() {
    let folder = TempDir::new().unwrap();
    // It has two, and refuses the rest.
    let script = [Reply::Status(200), Reply::Status(200)].into_iter();
    let refusing = script.chain(vec![Reply::Status(500); 100_000]);
    let receiver = Endpoint::start(refusing).await;
    let mut options = options("e", &receiver.url());
    options.queue_folder = Some(folder.path().to_owned());
    for round in 0..3 {
        let notifier = notifier();
        notifier.replace(vec![options.clone()]).await.unwrap();
        for number in round * 10..round * 10 + 10 {
            push(&notifier, number).await;
        }
        if round == 0 {
            receiver.wait_for(3).await;
        }
        notifier.shut_down(Duration::ZERO).await;
    }
    let before = receiver.got().len();
    receiver.answer([]);
    let notifier = notifier();
    notifier.replace(vec![options]).await.unwrap();
    let got = receiver.wait_for(before + 28).await;
    assert_eq!(repositories(&got[before..]), numbered(2..30));
    notifier.shut_down(PATIENCE).await;
}

#[tokio::test]
async fn the_end_delivers_what_waits_and_counts_what_is_lost() {
    let receiver = Endpoint::start([Reply::Status(500)]).await;
    let dead = Endpoint::start([Reply::Hang]).await;
    let mut hanging = options("dead", &dead.url());
    hanging.timeout = Duration::from_secs(3600);
    let notifier = notifier();
    notifier
        .replace(vec![options("well", &receiver.url()), hanging])
        .await
        .unwrap();
    for number in 0..20 {
        push(&notifier, number).await;
    }
    receiver.wait_for(21).await;
    let nothing = r#"pending_total{endpoint="well"} 0"#;
    eventually(|| counted(&notifier).contains(nothing)).await;
    notifier.shut_down(Duration::from_millis(100)).await;
    let delivered = repositories(&receiver.got()[1..]);
    assert_eq!(delivered, numbered(0..20));
    let counted = counted(&notifier);
    assert!(
        counted.contains(r#"dropped_total{endpoint="dead"} 20"#),
        "{counted}"
    );
    assert!(
        counted.contains(r#"dropped_total{endpoint="well"} 0"#),
        "{counted}"
    );
    assert!(!notifier.wants(Action::Push, "t"));
}
