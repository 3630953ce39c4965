//! Clients that speak plain HTTP where TLS is spoken.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::listen::Stream;

const BODY: &str = "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"this is an HTTPS port; \
                    use https:// to talk to it\"}]}\n";

/// How long the client may take to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells the client what is wrong.
pub(super) async fn refuse(mut stream: Stream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with bytes unread would reset the connection, and take the answer away again.
    let mut unread = [0; 1024];
    let read_out = async { while matches!(stream.read(&mut unread).await, Ok(1..)) {} };
    let _ = timeout(PATIENCE, read_out).await;
    Ok(())
}
