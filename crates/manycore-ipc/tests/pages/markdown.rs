//! Tables of a page, and what is named in them.

use std::collections::BTreeSet;

/// A row of a table of deaths.
pub struct Row {
    pub cells: Vec<String>,
    /// What is named as showing it; also what "the same" stands for.
    pub shown_by: Vec<String>,
}

impl Row {
    /// The fault points that it names.
    pub fn points(&self) -> BTreeSet<String> {
        let named = self.cells.iter().flat_map(|cell| names_in(cell));
        named.filter(|name| is_fault_point(name)).collect()
    }

    pub fn is_about_the_living(&self) -> bool {
        self.cells[0].starts_with("(alive)")
    }
}

/// What stands between backticks.
pub fn names_in(text: &str) -> Vec<String> {
    let outside_of_listings: String = text.split("```").step_by(2).collect();
    let pieces = outside_of_listings.split('`').skip(1).step_by(2);
    pieces.map(str::to_owned).collect()
}

/// Such as `ring.put.written`.
pub fn is_fault_point(name: &str) -> bool {
    let mut parts = name.split('.');
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
    };
    name.contains('.') && !is_file(name) && parts.all(is_part)
}

/// Such as `ring/get.rs` or `tests/kill/`.
pub fn is_file(name: &str) -> bool {
    let ends = [".rs", ".py", ".md", "/"];
    ends.iter().any(|end| name.ends_with(end))
}

/// Such as `a_ring_is_a_queue`, or the beginning of one and `...`: a name that is a sentence.
pub fn is_function(name: &str) -> bool {
    let stem = name.trim_end_matches("...");
    let is_word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
    let least = if stem.len() < name.len() { 2 } else { 3 };
    stem.bytes().all(is_word) && stem.matches('_').count() >= least
}

/// All tables: rows of cells, the head first.
fn tables(text: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables = vec![Vec::new()];
    for line in text.lines() {
        match line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
        {
            Some(row) => {
                let cells = row.split(" | ").map(|cell| cell.trim().to_owned());
                tables
                    .last_mut()
                    .expect("one at least")
                    .push(cells.collect());
            }
            None => tables.push(Vec::new()),
        }
    }
    tables.retain(|table: &Vec<Vec<String>>| table.len() > 2);
    tables
}

/// The rows of the tables that say what a death leaves.
pub fn death_rows(text: &str) -> Vec<Row> {
    let is_of_deaths = |table: &Vec<Vec<String>>| {
        ["dies after", "who dies, after"].contains(&table[0][0].as_str())
    };
    let mut rows: Vec<Row> = Vec::new();
    for table in tables(text).into_iter().filter(is_of_deaths) {
        for cells in table.into_iter().skip(2) {
            let last = cells.last().expect("a row has cells");
            let mut shown_by = names_in(last);
            let repeats = ["the same", "as above"];
            if repeats
                .iter()
                .any(|it| last.starts_with(it) || last.ends_with(it))
            {
                let before = rows.last().expect("something to be the same as");
                shown_by.extend(before.shown_by.iter().cloned());
            }
            rows.push(Row { cells, shown_by });
        }
    }
    rows
}

/// The rows of the table of promises.
pub fn promise_rows(text: &str) -> Vec<Vec<String>> {
    let is_of_promises = |table: &Vec<Vec<String>>| table[0][0] == "promise";
    let found = tables(text).into_iter().find(is_of_promises);
    let table = found.expect("a table of promises");
    table.into_iter().skip(2).collect()
}
