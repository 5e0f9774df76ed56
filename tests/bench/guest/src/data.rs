//! A database, and a digest.

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable, TableDefinition};
use sha2::{Digest, Sha256};

use crate::numbers;

const ROWS: TableDefinition<u64, &str> = TableDefinition::new("rows");
const COUNT: usize = 20_000;
const TRANSACTIONS: usize = 10;
const MEBIBYTES: usize = 16;

/// Rows are put into the tree of a database in memory in transactions, looked up, gone through in order, and half of them removed.
pub(crate) fn database() -> u64 {
    worked().expect("a database in memory works")
}

fn worked() -> Result<u64, redb::Error> {
    let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
    let keys: Vec<u64> = numbers(5).take(COUNT).collect();
    for keys in keys.chunks(COUNT / TRANSACTIONS) {
        let transaction = database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for key in keys {
                rows.insert(key, format!("the row of {key}").as_str())?;
            }
        }
        transaction.commit()?;
    }
    let transaction = database.begin_write()?;
    let mut checksum = 0;
    {
        let mut rows = transaction.open_table(ROWS)?;
        for key in &keys {
            checksum += rows.get(key)?.map_or(0, |row| row.value().len() as u64);
        }
        for row in rows.iter()? {
            let (key, row) = row?;
            checksum = checksum.rotate_left(5) ^ key.value() ^ row.value().len() as u64;
        }
        for key in keys.iter().step_by(2) {
            rows.remove(key)?;
        }
    }
    transaction.commit()?;
    Ok(checksum)
}

/// SHA-256 of some mebibytes.
pub(crate) fn sha256() -> u64 {
    let block: Vec<u8> = numbers(6).take(1 << 17).flat_map(u64::to_le_bytes).collect();
    let mut hash = Sha256::new();
    (0..MEBIBYTES).for_each(|_| hash.update(&block));
    let digest = hash.finalize();
    digest.iter().fold(0, |sum, &byte| (sum << 8) ^ u64::from(byte))
}
