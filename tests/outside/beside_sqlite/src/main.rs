//! Scores rows and keeps the answers in a SQLite of its own, by two crates that link the same one.

use std::error::Error;

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;

fn main() -> Result<(), Box<dyn Error>> {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../models/digits");
    let serin = serin::Serin::new()?;
    let digits = serin
        .endpoint("digits")
        .deployment("blue", format!("{models}/1/model.onnx"))
        .start_blocking()?;
    let request = std::fs::read_to_string(format!("{models}/1/sample-request.json"))?;
    let answer = digits.run_blocking(serin::Request::json(request))?;

    let kept = rusqlite::Connection::open_in_memory()?;
    kept.execute_batch("create table answers (body text not null)")?;
    let body = std::str::from_utf8(answer.json().ok_or("JSON is answered in JSON")?)?;
    kept.execute("insert into answers values (?1)", [body])?;
    let read: String = kept.query_row("select body from answers", [], |row| row.get(0))?;
    assert_eq!(read, body);

    let mut other = diesel::SqliteConnection::establish(":memory:")?;
    other.batch_execute("create table answers (body text not null)")?;
    println!("kept by SQLite {}: {read}", rusqlite::version());
    Ok(())
}
