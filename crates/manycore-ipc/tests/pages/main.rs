//! The pages and the sources name the same things: fault points, tests, files.
//!
//! | module | what it is |
//! |---|---|
//! | [`markdown`] | tables, and what is named in them |
//! | [`sources`] | fault points, functions and files of the repository |
//!
//! Every fault point has a row in a table of deaths and a real process that is killed there; every row names its
//! fault point and a test; every promise names what keeps it. A test is named whole, or by its beginning
//! and `...`.

mod markdown;
mod sources;

use std::collections::BTreeSet;

use markdown::{Row, death_rows, is_fault_point, is_file, is_function, names_in, promise_rows};
use sources::Sources;

fn missing<'a>(these: &'a BTreeSet<String>, in_those: &'a BTreeSet<String>) -> Vec<&'a String> {
    these.difference(in_those).collect()
}

#[test]
fn every_fault_point_is_a_place_where_a_real_process_is_killed_and_the_other_way_round() {
    let sources = Sources::read();
    let (points, places) = (sources.fault_points(), sources.places_of_all_kills());
    assert!(points.len() > 50, "{points:?}");
    assert_eq!(missing(&points, &places), [""; 0], "killed nowhere");
    assert_eq!(missing(&places, &points), [""; 0], "no such place");
    for file in sources.files_with_places() {
        let some = sources.places_in(&file);
        assert_eq!(missing(&some, &points), [""; 0], "no such place, in {file}");
    }
}

#[test]
fn every_fault_point_has_a_row_in_a_table_of_deaths_and_the_other_way_round() {
    let sources = Sources::read();
    let points = sources.fault_points();
    let mut named = BTreeSet::new();
    for (page, text) in sources.protocols() {
        named.extend(death_rows(&text).iter().flat_map(|row| row.points()));
        let anywhere = names_in(&text).into_iter().filter(|it| is_fault_point(it));
        // A page of the layer above speaks of processes that its own tests kill there.
        let points = match page.contains("manycore-ipc") {
            true => points.clone(),
            false => sources.places_below("crates/manycore/tests"),
        };
        let unknown: Vec<_> = anywhere.filter(|point| !points.contains(point)).collect();
        assert_eq!(unknown, [""; 0], "no such fault point, in {page}");
    }
    assert_eq!(missing(&points, &named), [""; 0], "in no table of deaths");
}

#[test]
fn every_row_of_a_table_of_deaths_names_where_it_happens_and_what_shows_it() {
    let sources = Sources::read();
    let mut rows = 0;
    for (page, text) in sources.protocols() {
        let is_of_the_engine = page.contains("manycore-ipc");
        for row in death_rows(&text) {
            rows += 1;
            let Row { cells, shown_by } = &row;
            let names_a_test = shown_by.iter().any(|it| is_function(it));
            let (points, is_alive) = (row.points(), row.is_about_the_living());
            if is_of_the_engine {
                assert!(names_a_test, "{page}: no test in {cells:?}");
                assert!(
                    is_alive || !points.is_empty(),
                    "{page}: no fault point in {cells:?}"
                );
            } else {
                assert!(
                    names_a_test || !points.is_empty(),
                    "{page}: nothing shows {cells:?}"
                );
            }
        }
    }
    assert!(rows > 60, "{rows}");
}

#[test]
fn every_test_that_a_page_names_exists() {
    let sources = Sources::read();
    let mut pages = sources.protocols();
    pages.push(("SAFETY.md".into(), sources.page("SAFETY.md")));
    for (page, text) in pages {
        let tests = names_in(&text).into_iter().filter(|name| is_function(name));
        let unknown: Vec<_> = tests.filter(|name| !sources.has_function(name)).collect();
        assert_eq!(unknown, [""; 0], "no such test, in {page}");
    }
}

#[test]
fn every_promise_names_a_test_or_a_file_that_keeps_it() {
    let sources = Sources::read();
    let rows = promise_rows(&sources.page("SAFETY.md"));
    assert!(rows.len() > 10, "{rows:?}");
    for cells in rows {
        let mut keepers = names_in(&cells[1]);
        keepers.retain(|name| is_function(name) || is_file(name));
        assert!(!keepers.is_empty(), "nothing keeps {:?}", cells[0]);
        for name in keepers.iter().filter(|name| is_file(name)) {
            assert!(
                sources.has_file(name),
                "no such file: {name}, for {:?}",
                cells[0]
            );
        }
    }
}
