//! Consumes topic `sensors` and reads each payload as a FlatBuffer of `examples/schemas/sensor.fbs`. The name
//! makes it go on where it was when it is started again.

#[path = "generated/mod.rs"]
mod generated;

use generated::sensors::Reading;
use uringest::client::blocking::Consumer;
use uringest::client::{ConsumerConfig, ConsumerEvent, Start};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "uringest://127.0.0.1:7440".to_owned());
    let mut left: u64 = args.next().map_or(Ok(1000), |count| count.parse())?;

    let mut config = ConsumerConfig::new("sensors");
    config.connection.server = server.parse()?;
    config.start = Start::Earliest; // where the name is new
    config.name = "example".to_owned();
    config.resume = true;
    let consumer = Consumer::connect(config)?;

    while left > 0 {
        match consumer.next(None)? {
            Some(ConsumerEvent::Batch(batch)) => {
                for record in batch.records() {
                    // Whoever published it, the bytes are not trusted before they are verified.
                    let reading = flatbuffers::root::<Reading>(record.payload)?;
                    println!(
                        "offset {:>6} of partition {}: device {} reading {}: {:.1} °C in {}",
                        record.offset,
                        record.partition,
                        reading.device(),
                        reading.number(),
                        reading.temperature(),
                        reading.site().unwrap_or("?"),
                    );
                }
                left = left.saturating_sub(u64::from(batch.len()));
                consumer.commit(batch.partition(), batch.next_offset())?;
            }
            Some(ConsumerEvent::Gap { from, records, .. }) => {
                println!("{records} records from offset {from} are gone")
            }
            _ => {}
        }
    }
    consumer.flush_commits(None)?;
    Ok(())
}
