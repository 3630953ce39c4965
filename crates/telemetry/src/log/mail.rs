//! Mails that tell of lines of the log.
//!
//! Whoever logs hands a line over and goes on; what cannot be taken is counted. A task gathers
//! lines for a while, so that a storm of errors is one mail and not a storm of mails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Level, warn};

use super::line::level_name;

/// The target of lines about mails, of which no mail tells.
pub(super) const TARGET: &str = "mail";

/// How many lines may wait to be taken up.
const WAITING: usize = 1000;

/// How many lines a mail has at most; of the others it tells the number.
const LINES: usize = 100;

/// How long a server may take for a step.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often mails are sent.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long lines are gathered after the first.
    gather: Duration,
    /// How long there is no mail after another.
    pause: Duration,
}

const PACE: Pace = Pace {
    gather: Duration::from_secs(5),
    pause: Duration::from_secs(300),
};

/// Who gets mails, by which server, about which lines.
#[derive(Clone, derive_more::Debug)]
pub struct MailOptions {
    /// The levels of the lines.
    pub levels: Vec<Level>,
    /// The server's name or address.
    pub host: String,
    /// Its port. TLS is spoken from the start at 465, and else when the server offers it.
    pub port: u16,
    /// The user, or nothing. A password goes over TLS only, but on this machine.
    pub username: String,
    /// The user's password.
    #[debug(skip)]
    pub password: String,
    /// Whether the server's certificate is not checked.
    pub insecure: bool,
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses.
    pub to: Vec<String>,
}

/// Why mails cannot be sent.
#[derive(Debug, Error)]
pub enum MailError {
    /// The sender is no address.
    #[error("{0:?} is no address like registry@example.org")]
    From(String),
    /// A receiver is no address.
    #[error("{1:?} is no address like admin@example.org")]
    To(usize, String),
    /// TLS cannot be set up for this server.
    #[error("{0}")]
    Server(lettre::transport::smtp::Error),
}

/// Takes lines, for mails that are sent in the background. Clones are one.
#[derive(Clone, Debug)]
pub struct Mails {
    levels: Vec<Level>,
    waiting: mpsc::Sender<Said>,
    /// The lines that could not be taken.
    missed: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Said {
    Line(Line),
    /// All that was said before is to be sent now.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Line {
    level: Level,
    message: String,
    text: String,
}

impl Mails {
    /// Begins to take lines. It must be called within a runtime, where the sending is done.
    ///
    /// # Errors
    /// [`MailError`].
    pub fn start(options: MailOptions) -> Result<Self, MailError> {
        Self::start_at(options, PACE)
    }

    fn start_at(options: MailOptions, pace: Pace) -> Result<Self, MailError> {
        let levels = options.levels.clone();
        let missed = Arc::new(AtomicU64::new(0));
        let sender = Sender {
            letter: Letter::new(&options)?,
            transport: transport(&options).map_err(MailError::Server)?,
            pace,
            missed: Arc::clone(&missed),
        };
        let (waiting, said) = mpsc::channel(WAITING);
        tokio::spawn(sender.run(said));
        Ok(Self {
            levels,
            waiting,
            missed,
        })
    }

    /// Takes a line, if mails tell of its level. It never waits.
    pub(super) fn tell(&self, level: Level, message: &str, text: &str) {
        if !self.levels.contains(&level) {
            return;
        }
        let line = Line {
            level,
            message: message.to_owned(),
            text: text.to_owned(),
        };
        if self.waiting.try_send(Said::Line(line)).is_err() {
            self.missed.fetch_add(1, Relaxed);
        }
    }

    /// Sends what was taken so far.
    pub(crate) async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.waiting.send(Said::Flush(done)).await.is_ok() {
            let _ = sent.await;
        }
    }
}

fn transport(
    options: &MailOptions,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, lettre::transport::smtp::Error> {
    let host = options.host.clone();
    let local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1");
    let parameters = TlsParameters::builder(host.clone())
        .dangerous_accept_invalid_certs(options.insecure)
        .dangerous_accept_invalid_hostnames(options.insecure)
        .build()?;
    let tls = match (options.port, options.username.as_str()) {
        (465, _) => Tls::Wrapper(parameters),
        (_, user) if !user.is_empty() && !local => Tls::Required(parameters),
        _ => Tls::Opportunistic(parameters),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(options.port)
        .timeout(Some(PATIENCE))
        .tls(tls);
    if !options.username.is_empty() {
        let password = options.password.clone();
        builder = builder.credentials(Credentials::new(options.username.clone(), password));
    }
    Ok(builder.build())
}

/// What all mails have in common.
#[derive(Debug)]
struct Letter {
    from: Mailbox,
    to: Vec<Mailbox>,
    host: String,
}

impl Letter {
    fn new(options: &MailOptions) -> Result<Self, MailError> {
        let from = options.from.parse();
        let from = from.map_err(|_| MailError::From(options.from.clone()))?;
        let to = options.to.iter().enumerate();
        let to = to.map(|(index, one)| one.parse().map_err(|_| MailError::To(index, one.clone())));
        let host = rustix::system::uname();
        Ok(Self {
            from,
            to: to.collect::<Result<_, _>>()?,
            host: host.nodename().to_string_lossy().into_owned(),
        })
    }

    /// A mail about lines, of which there is one, and the number of those it has no room for.
    fn write(&self, lines: &[Line], missed: u64) -> Result<Message, lettre::error::Error> {
        let more = lines.len() as u64 - 1 + missed;
        let mut subject = match lines.first() {
            Some(first) => {
                let level = level_name(first.level);
                format!("[{level}] {}: {}", self.host, first.message)
            }
            None => self.host.clone(),
        };
        if more > 0 {
            subject.push_str(&format!(" (and {more} more)"));
        }
        let mut body: String = lines.iter().map(|line| line.text.as_str()).collect();
        if missed > 0 {
            body.push_str(&format!("\n{missed} more lines are in the log.\n"));
        }
        let builder = Message::builder().from(self.from.clone());
        let builder = self
            .to
            .iter()
            .cloned()
            .fold(builder, |mail, to| mail.to(to));
        let content_type = lettre::message::header::ContentType::TEXT_PLAIN;
        builder
            .message_id(None)
            .subject(subject)
            .header(content_type)
            .body(body)
    }
}

/// Sends mails.
struct Sender {
    letter: Letter,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    pace: Pace,
    missed: Arc<AtomicU64>,
}

impl Sender {
    async fn run(self, mut said: mpsc::Receiver<Said>) {
        let mut lines: Vec<Line> = Vec::new();
        // When the lines that there are, or will be, may be sent.
        let mut earliest = Instant::now();
        let mut due = None;
        loop {
            let wake = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let heard = tokio::select! {
                heard = said.recv() => match heard {
                    Some(heard) => Some(heard),
                    None => return,
                },
                () = wake => None,
            };
            match heard {
                Some(Said::Line(line)) => {
                    due.get_or_insert_with(|| earliest.max(Instant::now() + self.pace.gather));
                    if lines.len() < LINES {
                        lines.push(line);
                    } else {
                        self.missed.fetch_add(1, Relaxed);
                    }
                }
                Some(Said::Flush(done)) => {
                    self.send(&mut lines).await;
                    due = None;
                    let _ = done.send(());
                }
                None => {
                    self.send(&mut lines).await;
                    earliest = Instant::now() + self.pace.pause;
                    due = (!lines.is_empty()).then_some(earliest);
                }
            }
        }
    }

    /// Sends a mail about the lines; they stay when it cannot be sent.
    async fn send(&self, lines: &mut Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let missed = self.missed.load(Relaxed);
        let sent = match self.letter.write(lines, missed) {
            Ok(mail) => match timeout(PATIENCE, self.transport.send(mail)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the server does not answer".to_owned()),
            },
            Err(error) => Err(error.to_string()),
        };
        match sent {
            Ok(()) => {
                lines.clear();
                self.missed.fetch_sub(missed, Relaxed);
            }
            Err(error) => {
                let lines = lines.len() as u64 + missed;
                warn!(target: TARGET, error, lines, "a mail cannot be sent; it is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn options(addr: std::net::SocketAddr) -> MailOptions {
        MailOptions {
            levels: vec![Level::ERROR, Level::WARN],
            host: addr.ip().to_string(),
            port: addr.port(),
            username: "user".to_owned(),
            password: "s-e-cret".to_owned(),
            insecure: false,
            from: "registry@example.org".to_owned(),
            to: vec![
                "one@example.org".to_owned(),
                "Two <two@example.org>".to_owned(),
            ],
        }
    }

    /// Takes one mail by SMTP (RFC 5321), and gives all the client said.
    async fn receive(stream: TcpStream) -> String {
        let mut stream = BufReader::new(stream);
        let mut heard = String::new();
        let mut in_mail = false;
        stream.write_all(b"220 test ESMTP\r\n").await.unwrap();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                return heard;
            }
            heard.push_str(&line);
            let word = line.split_whitespace().next().unwrap_or_default();
            let answer = match word {
                "." => {
                    in_mail = false;
                    "250 taken\r\n"
                }
                _ if in_mail => continue,
                "EHLO" => "250-test\r\n250 AUTH PLAIN\r\n",
                "AUTH" => "235 welcome\r\n",
                "DATA" => {
                    in_mail = true;
                    "354 go on\r\n"
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await.unwrap();
                    return heard;
                }
                _ => "250 ok\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if word == "." {
                return heard;
            }
        }
    }

    async fn server() -> (TcpListener, MailOptions) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = options(listener.local_addr().unwrap());
        (listener, options)
    }

    #[tokio::test]
    async fn a_storm_of_errors_is_one_mail() {
        let (listener, options) = server().await;
        let pace = Pace {
            gather: Duration::from_millis(200),
            pause: Duration::from_secs(3600),
        };
        let mails = Mails::start_at(options, pace).unwrap();
        mails.tell(Level::INFO, "not told", "not told\n");
        for number in 0..500 {
            let message = format!("error {number}");
            mails.tell(Level::ERROR, &message, &format!("line {number}\n"));
        }
        let (stream, _) = listener.accept().await.unwrap();
        let mail = receive(stream).await;
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let unfolded = mail.replace("\r\n ", " ");
        let subject = format!("Subject: [error] {host}: error 0 (and 499 more)\r\n");
        assert!(unfolded.contains(&subject), "{mail}");
        for part in [
            "RCPT TO:<one@example.org>",
            "RCPT TO:<two@example.org>",
            "line 0\r\n",
            "line 99\r\n",
            "400 more lines are in the log.",
        ] {
            assert!(mail.contains(part), "{part}\n{mail}");
        }
        assert!(
            !mail.contains("not told") && !mail.contains("line 100"),
            "{mail}"
        );
        // What comes next has to wait, unless the process ends.
        mails.tell(Level::WARN, "the end", "the end\n");
        let next = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            receive(stream).await
        });
        mails.flush().await;
        let mail = next.await.unwrap();
        assert!(mail.contains("Subject: [warning] "), "{mail}");
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_sent_later() {
        let (listener, options) = server().await;
        let pace = Pace {
            gather: Duration::from_millis(1),
            pause: Duration::from_millis(50),
        };
        let mails = Mails::start_at(options, pace).unwrap();
        mails.tell(Level::ERROR, "first", "first\n");
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"421 not now\r\n").await.unwrap();
        drop(stream);
        mails.tell(Level::ERROR, "second", "second\n");
        let (stream, _) = listener.accept().await.unwrap();
        let mail = receive(stream).await;
        assert!(mail.contains("first\r\nsecond\r\n"), "{mail}");
    }

    #[tokio::test]
    async fn who_logs_never_waits_for_a_server() {
        // Nobody accepts the connection.
        let (_listener, options) = server().await;
        let mails = Mails::start(options).unwrap();
        for _ in 0..10 * WAITING {
            mails.tell(Level::ERROR, "an error", "an error\n");
        }
        assert!(mails.missed.load(Relaxed) > 0);
    }

    #[tokio::test]
    async fn a_password_is_not_sent_in_the_clear_to_another_machine() {
        let (listener, mut options) = server().await;
        // Loopback under a name that is not known for it.
        options.host = "127.0.0.2".to_owned();
        options.port = listener.local_addr().unwrap().port();
        let listener = TcpListener::bind(("127.0.0.2", options.port))
            .await
            .unwrap();
        let mails = Mails::start(options).unwrap();
        mails.tell(Level::ERROR, "an error", "an error\n");
        let heard = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            receive(stream).await
        });
        mails.flush().await;
        let heard = heard.await.unwrap();
        assert!(heard.starts_with("EHLO "), "{heard}");
        assert!(!heard.contains("AUTH"), "{heard}");
    }

    #[tokio::test]
    async fn addresses_must_be_addresses() {
        let (_listener, good) = server().await;
        let mut options = good.clone();
        options.from = "nobody".to_owned();
        assert!(matches!(Mails::start(options), Err(MailError::From(_))));
        let mut options = good.clone();
        options.to[1] = "a b c".to_owned();
        assert!(matches!(Mails::start(options), Err(MailError::To(1, _))));
        assert!(!format!("{good:?}").contains("s-e-cret"));
    }
}
