use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use file::Users;

use super::*;

/// By the least cost, so that tests are quick.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

fn header(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn user(controller: &Htpasswd, shown: Option<&str>) -> Result<String, String> {
    let asked = Asked {
        authorization: shown,
        ..Asked::default()
    };
    match controller.authorize(asked, &[]).await {
        Ok(grant) => Ok(grant.user),
        Err(Refusal::Challenge {
            challenge, reason, ..
        }) => {
            assert_eq!(challenge, r#"Basic realm="the \"realm\"""#);
            Err(reason)
        }
        Err(error) => panic!("{error}"),
    }
}

fn controller(path: &std::path::Path) -> Htpasswd {
    Htpasswd::new(r#"the "realm""#, path).unwrap()
}

#[tokio::test]
async fn the_right_password_opens_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    let apr1 = "$apr1$c3gQ8Jj5$Yc1XoLWZbRhN1mM6hFvYv1";
    let text = format!(
        "# users\n\n  ada:{}  \nold:{apr1}\nplain:secret\nempty:{}\nb\u{e9}:{}\n",
        hash("pass:word"),
        hash(""),
        hash("x")
    );
    fs::write(&path, text).unwrap();
    let controller = controller(&path);
    for _ in 0..2 {
        let shown = header("ada", "pass:word");
        assert_eq!(user(&controller, Some(&shown)).await.unwrap(), "ada");
    }
    let lower = header("ada", "pass:word").replacen("Basic", "bAsIC", 1);
    assert!(user(&controller, Some(&lower)).await.is_ok());
    assert!(
        user(&controller, Some(&header("b\u{e9}", "x")))
            .await
            .is_ok()
    );
    assert!(user(&controller, Some(&header("empty", ""))).await.is_ok());
    let wrong = [
        header("ada", "pass"),
        header("ada", ""),
        header("Ada", "pass:word"),
        header("old", apr1),
        header("plain", "secret"),
        header("nobody", ""),
        header("", ""),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        format!("Basic {}", STANDARD.encode("ada")),
        header("ada", "pass:word").replace("Basic", "Bearer"),
    ];
    for shown in wrong {
        let reason = user(&controller, Some(&shown)).await.unwrap_err();
        assert!(!reason.contains("pass:word"), "{reason}");
    }
    assert!(user(&controller, None).await.is_err());
}

#[tokio::test]
async fn a_changed_file_counts_at_once_and_a_broken_one_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs::write(&path, format!("ada:{}\n", hash("one"))).unwrap();
    let controller = controller(&path);
    let [one, two] = ["one", "two"].map(|password| header("ada", password));
    assert!(user(&controller, Some(&one)).await.is_ok());
    fs::write(&path, format!("ada:{}\nbob:{}\n", hash("two"), hash("b"))).unwrap();
    assert!(
        user(&controller, Some(&one)).await.is_err(),
        "it was remembered"
    );
    assert!(user(&controller, Some(&two)).await.is_ok());
    fs::write(&path, "no colon\n").unwrap();
    assert!(user(&controller, Some(&two)).await.is_ok());
    fs::remove_file(&path).unwrap();
    assert!(user(&controller, Some(&two)).await.is_ok());
    fs::write(&path, "").unwrap();
    assert!(user(&controller, Some(&two)).await.is_err());
}

#[tokio::test]
async fn a_missing_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/htpasswd");
    let password = Htpasswd::make_if_missing(&path, None).unwrap().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("docker:$2b$12$"), "{text}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(Htpasswd::make_if_missing(&path, None).unwrap(), None);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let controller = controller(&path);
    let guess = header("docker", "docker");
    assert!(user(&controller, Some(&guess)).await.is_err());
    let shown = header("docker", &password);
    assert_eq!(user(&controller, Some(&shown)).await.unwrap(), "docker");
}

#[test]
fn a_broken_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    for broken in ["ada", ":$2b$10$x"] {
        fs::write(&path, format!("# one\n{broken}\n")).unwrap();
        let error = Htpasswd::new("r", &path).unwrap_err().to_string();
        assert!(error.contains("htpasswd:2:"), "{error}");
        assert!(!error.contains(broken), "{error}");
    }
    let missing = folder.path().join("none");
    let error = Htpasswd::new("r", missing).unwrap_err().to_string();
    assert!(error.contains("none: No such file"), "{error}");
    let error = Htpasswd::new("r", folder.path()).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn the_password_of_a_new_file_is_kept_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let [path, kept] = ["users", "users.password"].map(|name| folder.path().join(name));
    // One that a file of users that is gone has left, for everybody to read.
    fs::write(&kept, "old").unwrap();
    let password = Htpasswd::make_if_missing(&path, Some(&kept)).unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap(), password.unwrap() + "\n");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&kept).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // Where it cannot be kept no file of users is left that nobody knows the password of.
    let path = folder.path().join("others");
    let nowhere = folder.path().join("nowhere/password");
    let error = Htpasswd::make_if_missing(&path, Some(&nowhere)).unwrap_err();
    assert!(error.to_string().contains("nowhere/password: "), "{error}");
    assert!(!path.exists());
}

/// The work of a refused login, in rounds of bcrypt.
fn work(users: &Users, user: &str) -> u64 {
    let comparison = users.comparison(user);
    let hashes = [&comparison.hash].into_iter().chain(&comparison.then);
    let rounds = hashes.map(|hash| {
        assert_eq!(bcrypt::verify("guess", hash).ok(), Some(false), "{hash}");
        1 << hash.parse::<bcrypt::HashParts>().unwrap().get_cost()
    });
    rounds.sum()
}

#[test]
fn a_refused_login_takes_the_same_work_whoever_it_is() {
    let text = [4, 5, 7].map(|cost| format!("cost{cost}:{}\n", bcrypt::hash("x", cost).unwrap()));
    let users = Users::parse(&text.concat()).unwrap();
    for user in ["cost4", "cost5", "cost7", "nobody"] {
        assert_eq!(work(&users, user), 1 << 7, "{user}");
    }
    assert!(!users.comparison("nobody").known && users.comparison("cost4").known);
}

/// And the work is done: what differs by a factor of 64 in the hashes takes about the same time.
#[tokio::test]
async fn the_time_of_a_refused_login_does_not_tell_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    let costly = bcrypt::hash("x", 10).unwrap();
    fs::write(&path, format!("cheap:{}\ncostly:{costly}\n", hash("x"))).unwrap();
    let controller = controller(&path);
    let mut times = Vec::new();
    for name in ["cheap", "nobody"] {
        let mut shortest = Duration::MAX;
        for guess in ["a", "b", "c"] {
            let began = Instant::now();
            let refused = user(&controller, Some(&header(name, guess))).await;
            assert!(refused.is_err());
            shortest = shortest.min(began.elapsed());
        }
        times.push(shortest);
    }
    assert!(times[0] * 8 > times[1], "{times:?}");
}

#[test]
fn one_costly_line_does_not_make_everybody_costly() {
    let costly = bcrypt::hash("x", 4).unwrap().replacen("$04$", "$20$", 1);
    let unheard = costly.replacen("$20$", "$99$", 1);
    let users = Users::parse(&format!("# users\na:{costly}\nb:{unheard}\n")).unwrap();
    let nobody = users.comparison("nobody");
    assert!(nobody.hash.starts_with("$2b$14$") && nobody.then.is_empty());
    let costly = users.comparison("a");
    assert!(costly.known && costly.then.is_empty());
    // That is no cost, and would be refused at once.
    assert!(!users.comparison("b").known);
    let (warnings, _guard) = warnings();
    users.warn(std::path::Path::new("users"));
    let told = warnings.lock().unwrap().join("\n");
    assert!(told.contains("users:2: the hash has the cost 20"), "{told}");
    assert!(
        told.contains("users:3: the hash is not by bcrypt"),
        "{told}"
    );
}

/// A controller whose passwords are compared by `compare`.
fn comparing(
    path: &std::path::Path,
    compare: impl Fn(&[u8], &str) -> bool + Send + Sync + 'static,
) -> Htpasswd {
    Htpasswd {
        passwords: Passwords::new(2, Box::new(compare)),
        ..controller(path)
    }
}

fn wait_for(open: &AtomicBool) {
    while !open.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn logins_whose_client_has_left_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs::write(&path, format!("ada:{0}\nbob:{0}\n", hash("x"))).unwrap();
    let [now, most, all] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let open = Arc::new(AtomicBool::new(false));
    let controller = {
        let [now, most, all] = [&now, &most, &all].map(Arc::clone);
        let open = Arc::clone(&open);
        comparing(&path, move |password, _| {
            all.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if password != b"right" {
                wait_for(&open);
            }
            now.fetch_sub(1, Ordering::SeqCst);
            password == b"right"
        })
    };
    let ada = header("ada", "right");
    assert!(user(&controller, Some(&ada)).await.is_ok());
    for guess in 0..300 {
        let shown = header("ada", &format!("guess {guess}"));
        let login = user(&controller, Some(&shown));
        let left = tokio::time::timeout(Duration::from_millis(1), login).await;
        assert!(left.is_err(), "{left:?}");
    }
    assert_eq!(now.load(Ordering::SeqCst), 2, "threads that compare");
    // Who is logged in does not notice.
    assert!(user(&controller, Some(&ada)).await.is_ok());
    open.store(true, Ordering::SeqCst);
    assert!(
        user(&controller, Some(&header("bob", "right")))
            .await
            .is_ok()
    );
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(
        all.load(Ordering::SeqCst),
        4,
        "what nobody waits for is not compared"
    );
}

#[tokio::test]
async fn more_logins_than_can_wait_are_told_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs::write(&path, format!("ada:{}\n", hash("x"))).unwrap();
    let open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&open);
    let controller = Arc::new(comparing(&path, move |_, _| {
        wait_for(&opened);
        false
    }));
    let mut logins = tokio::task::JoinSet::new();
    for guess in 0..200 {
        let controller = Arc::clone(&controller);
        let shown = header("ada", &format!("guess {guess}"));
        logins.spawn(async move {
            let asked = Asked {
                authorization: Some(&shown),
                ..Asked::default()
            };
            controller.authorize(asked, &[]).await
        });
    }
    // All but those that wait and those that are compared have their answer while nothing moves.
    for _ in 0..200 - queue::WAITING - 2 {
        let refused = logins.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(Refusal::Busy)), "{refused:?}");
    }
    open.store(true, Ordering::SeqCst);
    let mut busy = 0;
    while let Some(refused) = logins.join_next().await {
        match refused.unwrap() {
            Err(Refusal::Challenge {
                shown: Shown::Guess,
                ..
            }) => {}
            // They came before the first ones were on their way from the queue to be compared.
            Err(Refusal::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy <= 2, "{busy}");
}

/// Reading a pipe that nobody writes to hangs, as a file system may.
#[tokio::test]
async fn a_file_that_hangs_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs::write(&path, format!("ada:{}\n", hash("x"))).unwrap();
    let controller = controller(&path);
    fs::remove_file(&path).unwrap();
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let ada = header("ada", "x");
    for _ in 0..20 {
        let login = user(&controller, Some(&ada));
        let login = tokio::time::timeout(Duration::from_secs(10), login).await;
        assert_eq!(login.expect("it hangs").unwrap(), "ada");
    }
    // It is looked at by one thread, which goes on when the file system does.
    fs::write(&path, format!("bob:{}\n", hash("x"))).unwrap();
    fs::remove_file(&path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while user(&controller, Some(&header("bob", "x"))).await.is_err() {
        assert!(Instant::now() < deadline, "it is not followed any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// However quick they follow each other, and though the size is the same.
#[tokio::test]
async fn no_change_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    let [one, two] = ["one", "two"].map(|password| format!("ada:{}\n", hash(password)));
    fs::write(&path, &one).unwrap();
    let controller = controller(&path);
    for _ in 0..50 {
        for (text, password) in [(&two, "two"), (&one, "one")] {
            fs::write(&path, text).unwrap();
            let shown = header("ada", password);
            assert!(user(&controller, Some(&shown)).await.is_ok());
        }
    }
}

/// What is warned of on this thread until the guard is dropped.
fn warnings() -> (Arc<Mutex<Vec<String>>>, tracing::subscriber::DefaultGuard) {
    struct Collect(Arc<Mutex<Vec<String>>>);

    impl tracing::field::Visit for Collect {
        fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }

    impl tracing::Subscriber for Collect {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut Collect(Arc::clone(&self.0)));
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let told = Arc::new(Mutex::new(Vec::new()));
    let guard = tracing::subscriber::set_default(Collect(Arc::clone(&told)));
    (told, guard)
}

/// Requests, and the thread that looks at the file, must never wait for each other in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_at_once_all_get_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs::write(&path, format!("ada:{}\n", hash("right"))).unwrap();
    let controller = Arc::new(controller(&path));
    let shown = header("ada", "right");
    let asking = (0..64).map(|_| {
        let (controller, shown) = (Arc::clone(&controller), shown.clone());
        tokio::spawn(async move {
            for _ in 0..200 {
                assert_eq!(user(&controller, Some(&shown)).await.unwrap(), "ada");
            }
        })
    });
    // Should they wait in a circle, the runtime's threads do too: only another one can tell.
    let (done, all_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let waited = all_done.recv_timeout(Duration::from_secs(60));
        if waited.is_err() {
            eprintln!("they wait for each other");
            std::process::abort();
        }
    });
    for task in asking.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    done.send(()).unwrap();
}
