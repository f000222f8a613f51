//! An upload whose second half comes when a test wants.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Upload {
    connection: TcpStream,
    rest: Vec<u8>,
}

impl Upload {
    /// Sends the first half, once the server wants it.
    pub async fn begin(address: &str, path: &str, token: &str, body: &[u8]) -> Self {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-type: application/vnd.ipld.car\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            said.push(connection.read_u8().await.unwrap());
        }
        assert!(said.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&said));
        let (half, rest) = body.split_at(body.len() / 2);
        connection.write_all(half).await.unwrap();
        Self { connection, rest: rest.to_vec() }
    }

    /// Sends the other half.
    pub async fn finish(self) -> (u16, Value) {
        self.end().await.unwrap()
    }

    /// As [`Self::finish`]; a server that has refused the first half may close the connection.
    pub async fn end(mut self) -> std::io::Result<(u16, Value)> {
        self.connection.write_all(&self.rest).await?;
        let mut said = String::new();
        self.connection.read_to_string(&mut said).await?;
        let (head, body) = said.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }
}
