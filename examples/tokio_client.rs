//! The tokio driver: publishes ten records and consumes them, in one task each.

use uringest::client::{ConsumerConfig, ConsumerEvent, ProducerConfig, Record, tokio as driver};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "uringest://127.0.0.1:7440".to_owned());
    let mut publish = ProducerConfig::new("greetings");
    publish.connection.server = server.parse()?;
    let mut consume = ConsumerConfig::new("greetings");
    consume.connection.server = server.parse()?;

    let consumer = driver::consumer(consume)?;
    consumer.subscribed().await?;
    let publisher = tokio::spawn(async move {
        let producer = driver::producer(publish).await?;
        for number in 0..10 {
            // Resolves when the server has acknowledged the record.
            producer.publish(&Record::new(format!("hello {number}").as_bytes())).await?;
        }
        producer.close().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    let mut left = 10;
    while left > 0 {
        if let ConsumerEvent::Batch(batch) = consumer.next().await? {
            for payload in batch.payloads() {
                println!("{}", String::from_utf8_lossy(&payload));
            }
            left -= batch.len();
        }
    }
    consumer.close().await;
    publisher.await?.map_err(|error| error.to_string())?;
    Ok(())
}
