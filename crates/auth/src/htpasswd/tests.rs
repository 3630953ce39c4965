use std::fs;

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
    let password = Htpasswd::make_if_missing(&path).unwrap().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("docker:$2b$12$"), "{text}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(Htpasswd::make_if_missing(&path).unwrap(), None);
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

/// Comparing with nobody's hash takes as long as with a user's: it is a hash, of the same cost.
#[test]
fn an_unknown_user_is_compared_with_a_real_hash() {
    let users = Users::parse(&format!("ada:{}", hash("one"))).unwrap();
    let (nobody, known) = users.hash("nobody");
    assert!(!known);
    assert_eq!(bcrypt::verify("", nobody).ok(), Some(false));
    let parts: bcrypt::HashParts = nobody.parse().unwrap();
    assert_eq!(parts.get_cost(), 4);
}
