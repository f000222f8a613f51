//! A WebSocket client that does no more than it is told: it answers no pings, and reads when it is asked to.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the server sent.
#[derive(Debug, PartialEq)]
pub enum Frame {
    Text(Value),
    Ping,
    Pong,
    /// With its code and reason.
    Close(u16, String),
    /// The connection is over.
    End,
}

pub struct Socket {
    stream: TcpStream,
    /// Of the handshake's answer.
    pub status: u16,
}

impl Socket {
    pub async fn open(address: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let status = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        Self { stream, status }
    }

    /// Says who asks, and waits until the server knows it.
    pub async fn begin(mut self, token: Option<&str>) -> Self {
        let payload = token.map_or(json!({}), |token| json!({ "authorization": format!("Bearer {token}") }));
        self.send(&json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(self.next().await, Frame::Text(json!({ "type": "connection_ack" })));
        self
    }

    pub async fn send(&mut self, message: &Value) {
        self.frame(0x81, message.to_string().as_bytes()).await;
    }

    pub async fn ask(&mut self, id: &str, query: &str) {
        self.send(&json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    pub async fn pong(&mut self) {
        self.frame(0x8a, b"").await;
    }

    /// Text that may be no JSON, or not as it is written elsewhere.
    pub async fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// Pings without end; the server ends it.
    pub async fn flood(&mut self) {
        let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000);
        for _ in 0..20 {
            if self.stream.write_all(&pings).await.is_err() {
                break;
            }
        }
    }

    /// The head of a message of so many bytes, without any of them.
    pub async fn announce(&mut self, bytes: u64) {
        let mut head = vec![0x81, 0x80 | 127];
        head.extend(bytes.to_be_bytes());
        head.extend([0; 4]);
        self.stream.write_all(&head).await.unwrap();
    }

    /// A mask of zeros changes nothing, and is one. What the server does not want to read any more is not sent.
    async fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![kind];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        let _ended = self.stream.write_all(&frame).await;
    }

    pub async fn next(&mut self) -> Frame {
        self.read().await.unwrap_or(Frame::End)
    }

    /// The next that is no ping and no pong.
    pub async fn told(&mut self) -> Frame {
        loop {
            match self.next().await {
                Frame::Ping => self.pong().await,
                Frame::Pong => {}
                frame => return frame,
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let kind = self.stream.read_u8().await? & 0x0f;
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await?;
        Ok(match kind {
            1 => Frame::Text(serde_json::from_slice(&payload).unwrap()),
            8 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Frame::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            9 => Frame::Ping,
            10 => Frame::Pong,
            other => panic!("a frame of kind {other}"),
        })
    }
}
