use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

fn config(smtp: &str) -> Config {
    Config {
        smtp: smtp.into(),
        smtp_user: String::new(),
        smtp_password: pulse::Secret::new(""),
        smtp_ca_file: None,
        from: "pulsehook <pulsehook@example.com>".into(),
        taskcluster: false,
        root_url: String::new(),
        interval_seconds: 1,
        settle_seconds: 0,
        max_age_seconds: 1,
        max_notices: 1,
        deny: Vec::new(),
    }
}

#[test]
fn without_tls_only_this_machine_is_spoken_to_and_passwords_are_never_shown() {
    for good in ["smtps://mail.example.com", "smtp://mail.example.com:2587", "smtp+plain://127.0.0.1:2525"] {
        assert!(Smtp::new(&config(good)).is_ok(), "{good}");
    }
    for bad in [
        "smtp+plain://mail.example.com",
        "mail.example.com",
        "http://mail.example.com",
        "smtps://u:hunter2@mail.example.com",
        "smtps://mail.example.com/?tls=none",
    ] {
        let error = Smtp::new(&config(bad)).err().unwrap().to_string();
        assert!(error.contains("notify.smtp") && !error.contains("hunter2"), "{error}");
    }
    let error = Smtp::new(&Config { smtp_user: "u".into(), ..config("smtps://m") }).err().unwrap();
    assert!(error.to_string().contains("smtp_password"), "{error}");
}

#[test]
fn a_mail_is_one_plain_text_to_one_recipient_whatever_the_words_are() {
    let smtp = Smtp::new(&config("smtps://mail.example.com")).unwrap();
    let mail = Mail {
        to: "o@example.com".into(),
        id: "1".into(),
        subject: "ci/ü\r\nBcc: x@example.com".into(),
        body: "one\n.\ntwo ü".into(),
    };
    let text = String::from_utf8(smtp.message(&mail).unwrap().formatted()).unwrap();
    assert!(text.contains("Message-ID: <1@example.com>"), "{text}");
    assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
    let wrong = Mail { to: "not an address".into(), ..mail };
    assert!(matches!(smtp.message(&wrong), Err(SendError::Refused(_))));
}

fn mail() -> Mail {
    Mail { to: "o@example.com".into(), id: "1".into(), subject: "s".into(), body: "b".into() }
}

/// What a server does in place of its answer, on its first connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    FallsSilent,
    BreaksOff,
}

/// A server that takes mail on a connection at a time, and on the first one has `fault` at the line that begins with `at`. Tells
/// the number of the connection with each mail.
async fn faulty_at_first(
    listener: TcpListener,
    at: &'static str,
    fault: Fault,
    taken: mpsc::UnboundedSender<usize>,
) {
    for connection in 1.. {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 here\r\n").await.unwrap();
        let (mut line, mut in_mail, mut silent) = (String::new(), false, false);
        while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
            let answer = match line.trim_end() {
                "." => {
                    in_mail = false;
                    taken.send(connection).unwrap();
                    "250 taken"
                }
                _ if in_mail => "",
                "DATA" => {
                    in_mail = true;
                    "354 go on"
                }
                _ => "250 well",
            };
            if connection == 1 && line.starts_with(at) {
                match fault {
                    Fault::FallsSilent => silent = true,
                    Fault::BreaksOff => break,
                }
            }
            line.clear();
            if !silent
                && !answer.is_empty()
                && stream.write_all(format!("{answer}\r\n").as_bytes()).await.is_err()
            {
                break;
            }
        }
    }
}

/// Such a server, and the way to it.
async fn faulty_server(at: &'static str, fault: Fault) -> (Smtp, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("smtp+plain://{}", listener.local_addr().unwrap());
    let (sender, taken) = mpsc::unbounded_channel();
    tokio::spawn(faulty_at_first(listener, at, fault, sender));
    (Smtp::new(&config(&url)).unwrap(), taken)
}

async fn next(taken: &mut mpsc::UnboundedReceiver<usize>) -> usize {
    tokio::time::timeout(Duration::from_secs(60), taken.recv()).await.unwrap().unwrap()
}

/// How long a silence is waited for: what was said before has been answered, or the outcome is the same.
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_mail_that_is_not_answered_may_have_gone_and_its_connection_is_not_used_again() {
    for fault in [Fault::FallsSilent, Fault::BreaksOff] {
        let (mut smtp, mut taken) = faulty_server(".", fault).await;
        if fault == Fault::FallsSilent {
            (smtp.patience.text, smtp.patience.farewell) = (SHORT, SHORT);
        }
        let sent = smtp.send(&mail()).await;
        assert!(matches!(sent, Err(SendError::Unknown(_))), "{fault:?}: {sent:?}");
        assert_eq!(next(&mut taken).await, 1, "it was delivered all the same");
        smtp.patience = PATIENCE;
        assert_eq!(smtp.send(&mail()).await, Ok(()));
        assert_eq!(next(&mut taken).await, 2);
        assert_eq!(smtp.send(&mail()).await, Ok(()));
        assert_eq!(next(&mut taken).await, 2, "what is well is kept");
    }
}

#[tokio::test]
async fn who_was_not_given_the_text_does_not_have_the_mail() {
    for at in ["MAIL", "RCPT", "DATA"] {
        for fault in [Fault::FallsSilent, Fault::BreaksOff] {
            let (mut smtp, mut taken) = faulty_server(at, fault).await;
            if fault == Fault::FallsSilent {
                (smtp.patience.command, smtp.patience.farewell) = (SHORT, SHORT);
            }
            let sent = smtp.send(&mail()).await;
            assert!(matches!(sent, Err(SendError::Later(_))), "{at} {fault:?}: {sent:?}");
            smtp.patience = PATIENCE;
            assert_eq!(smtp.send(&mail()).await, Ok(()), "{at} {fault:?}");
            assert_eq!(next(&mut taken).await, 2, "and on no connection before");
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_a_server_to_say_farewell() {
    let (mut smtp, _taken) = faulty_server("QUIT", Fault::FallsSilent).await;
    smtp.patience.farewell = SHORT;
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), smtp.check()).await, Ok(Ok(())));
}

#[tokio::test]
async fn who_says_nothing_at_all_has_no_mail() {
    // Never accepted, so that nobody greets.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut smtp = Smtp::new(&config(&format!("smtp+plain://{}", listener.local_addr().unwrap()))).unwrap();
    smtp.patience.greeting = Duration::from_millis(100);
    assert!(matches!(smtp.send(&mail()).await, Err(SendError::Later(_))));
    assert!(smtp.check().await.is_err());
}
