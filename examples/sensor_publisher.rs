//! Publishes sensor readings, each a FlatBuffer of `examples/schemas/sensor.fbs`, to topic `sensors`.
//!
//! ```sh
//! uringest serve &
//! cargo run --example sensor_consumer &
//! cargo run --example sensor_publisher -- 127.0.0.1:7440 1000
//! ```

#[path = "generated/mod.rs"]
mod generated;

use std::time::{SystemTime, UNIX_EPOCH};

use flatbuffers::FlatBufferBuilder;
use generated::sensors::{Quality, Reading, ReadingArgs};
use uringest::client::blocking::Producer;
use uringest::client::{ProducerConfig, ProducerEvent, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "uringest://127.0.0.1:7440".to_owned());
    let count: u64 = args.next().map_or(Ok(1000), |count| count.parse())?;

    let mut config = ProducerConfig::new("sensors");
    config.connection.server = server.parse()?;
    let producer = Producer::connect_with(config, |event| {
        if let ProducerEvent::Disconnected { why } = event {
            eprintln!("connection lost ({why}); what is unacknowledged is sent again");
        }
    })?;

    let mut builder = FlatBufferBuilder::new();
    for number in 0..count {
        let device = u32::try_from(number % 8)?;
        builder.reset();
        let site = builder.create_string("hall-1");
        let vibration = builder.create_vector(&[3i16, -1, 4, -1, 5]);
        let reading = Reading::create(
            &mut builder,
            &ReadingArgs {
                device,
                number: number / 8,
                taken_ns: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?,
                temperature: 21.5,
                humidity: 40.0,
                pressure: 1013.25,
                quality: Quality::Good,
                vibration: Some(vibration),
                site: Some(site),
            },
        );
        builder.finish(reading, None);
        // The key keeps each device's readings in order: they all go to one partition.
        producer.send_record(&Record::keyed(builder.finished_data(), &device.to_le_bytes()))?;
    }
    producer.close(None)?; // returns when the server has acknowledged every reading
    println!("{count} readings acknowledged");
    Ok(())
}
