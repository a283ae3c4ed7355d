//! The harness is tried before anything is tried with it.

use std::time::Duration;

use harness::{Proxy, Rabbit, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_node_starts_is_paused_killed_and_comes_back() {
    let mut rabbit = Rabbit::start_with_tls().await.unwrap();
    rabbit.add_vhost("a/b").await.unwrap();
    assert!(rabbit.ctl(&["list_vhosts"]).await.unwrap().contains("a/b"));
    assert!(rabbit.url("a/b").ends_with("/a%2Fb"));
    assert!(rabbit.tls_url("/").unwrap().starts_with("amqps://"));
    assert!(rabbit.ca_file().exists());

    rabbit.pause().unwrap();
    let mut stream = TcpStream::connect(rabbit.address()).await.unwrap();
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    let mut byte = [0];
    let silent = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut byte)).await;
    assert!(silent.is_err(), "a paused node answers nothing");
    rabbit.resume().unwrap();
    stream.read_exact(&mut byte).await.unwrap();

    rabbit.kill9().unwrap();
    assert!(TcpStream::connect(rabbit.address()).await.is_err());
    rabbit.restart().await.unwrap();
    assert!(rabbit.ctl(&["list_vhosts"]).await.unwrap().contains("a/b"));
    rabbit.stop().await.unwrap();
}

#[tokio::test]
async fn the_proxy_cuts_stalls_and_refuses() {
    let server = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
    let echo = tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let mut byte = [0];
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"x").await.unwrap();
    client.read_exact(&mut byte).await.unwrap();
    proxy.stall(true);
    client.write_all(b"y").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), client.read_exact(&mut byte)).await.is_err());
    proxy.stall(false);
    client.read_exact(&mut byte).await.unwrap();
    proxy.cut();
    assert!(matches!(client.read(&mut byte).await, Ok(0) | Err(_)));
    proxy.refuse(true);
    eventually(Duration::from_secs(5), || async {
        let mut refused = TcpStream::connect(proxy.address()).await.ok()?;
        matches!(refused.read(&mut [0]).await, Ok(0) | Err(_)).then_some(())
    })
    .await;
    echo.abort();
}

/// Started by the test below, to be killed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child() {
    if std::env::var_os("HARNESS_CHILD").is_some() {
        let rabbit = Rabbit::start().await.unwrap();
        println!("address {}", rabbit.address());
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_node_does_not_outlive_a_test_that_is_killed() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("HARNESS_CHILD", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let address =
        lines.map_while(Result::ok).find_map(|line| Some(line.split_once("address ")?.1.to_owned())).unwrap();
    TcpStream::connect(&address).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(Duration::from_secs(30), || async {
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
}
