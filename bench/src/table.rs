//! The table of figures: medians, spreads and ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::lines::Unit;
use crate::measure::{Sample, median};
use crate::servers::Kind;

/// Where the table stands in a document.
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// What one line gave.
pub struct Row {
    /// What was done.
    pub name: &'static str,
    /// The unit of its figures.
    pub unit: Unit,
    /// The measurements of each server.
    pub samples: BTreeMap<Kind, Vec<Sample>>,
}

impl Row {
    fn middle(&self, kind: Kind, of: impl Fn(&Sample) -> Option<f64>) -> Option<(f64, f64)> {
        median(self.samples.get(&kind)?.iter().filter_map(of).collect())
    }

    /// How many times as good as a peer Wharfinger is.
    fn ratio(&self, peer: Kind) -> Option<f64> {
        let (ours, _) = self.middle(Kind::Wharfinger, |s| Some(s.value))?;
        let (theirs, _) = self.middle(peer, |s| Some(s.value))?;
        Some(if self.unit.more_is_better() {
            ours / theirs
        } else {
            theirs / ours
        })
    }

    /// A server's figure: the median, its spread, and what it cost.
    fn cell(&self, kind: Kind) -> String {
        let Some((value, spread)) = self.middle(kind, |s| Some(s.value)) else {
            return "–".to_owned();
        };
        let mut cell = format!("{} ±{:.0} %", rounded(value), spread * 100.0);
        let cpu = self.middle(kind, |s| s.cpu).map_or(0.0, |(cpu, _)| cpu);
        let peak = self.middle(kind, |s| Some(s.peak)).map_or(0.0, |(p, _)| p);
        let _ = match self.unit {
            Unit::Throughput => write!(cell, ", {cpu:.2} s/GB, {peak:.0} MB"),
            Unit::Requests if cpu > 0.0 => write!(cell, ", {cpu:.0} µs"),
            _ => Ok(()),
        };
        cell
    }

    /// The row with everybody's figures as Markdown.
    pub fn figures(&self, kinds: &[Kind]) -> String {
        let cells: Vec<_> = kinds.iter().map(|kind| self.cell(*kind)).collect();
        format!(
            "| {} ({}) | {} | {} |",
            self.name,
            self.unit.title(),
            cells.join(" | "),
            self.ratios(&kinds[1..]).join(" | ")
        )
    }

    /// How many times as good Wharfinger is as each of these.
    fn ratios(&self, peers: &[Kind]) -> Vec<String> {
        let written = |ratio: f64| match ratio {
            ratio if ratio >= 10.0 => format!("{ratio:.0}"),
            ratio => format!("{ratio:.2}"),
        };
        let ratio = |peer: &Kind| self.ratio(*peer).map_or("–".to_owned(), written);
        peers.iter().map(ratio).collect()
    }
}

/// The head of the table of figures as Markdown.
pub fn head(kinds: &[Kind]) -> String {
    let titles: Vec<_> = kinds.iter().map(|kind| kind.title()).collect();
    format!(
        "| work | {} |{}",
        titles.join(" | "),
        ratio_titles(&kinds[1..])
    ) + "\n|---|"
        + &"---|".repeat(2 * kinds.len() - 1)
}

fn ratio_titles(peers: &[Kind]) -> String {
    peers
        .iter()
        .map(|peer| format!(" × {} |", peer.title()))
        .collect()
}

/// The whole table of figures as Markdown.
pub fn figures(rows: &[Row], kinds: &[Kind]) -> String {
    let rows = rows.iter().map(|row| row.figures(kinds));
    joined(head(kinds), rows)
}

/// A table of ratios alone, of what everybody does, as Markdown.
pub fn ratios(rows: &[Row], kinds: &[Kind]) -> String {
    let peers = &kinds[1..kinds.len() - 1];
    let head = format!("| work |{}\n|---|", ratio_titles(peers)) + &"---|".repeat(peers.len());
    let rows = rows
        .iter()
        .map(|row| format!("| {} | {} |", row.name, row.ratios(peers).join(" | ")));
    joined(head, rows)
}

fn joined(head: String, rows: impl Iterator<Item = String>) -> String {
    rows.fold(head, |table, row| table + "\n" + &row)
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{:.0}", (v / 10.0).round() * 10.0),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Puts the table into a document, in place of the one between its marks.
///
/// # Errors
/// When the document has no marks, or cannot be read or written.
pub fn write(document: &Path, table: &str) -> Result<()> {
    let name = document.display().to_string();
    let text = fs::read_to_string(document).context(format!("read {name}"))?;
    let parts = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        return Err(Error::Usage(format!(
            "{name} has no place for the table: {BEGIN} and {END}"
        )));
    };
    let text = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    fs::write(document, text).context(format!("write {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        let sample = |value: &f64| Sample {
            value: *value,
            cpu: None,
            peak: 1.0,
        };
        values.iter().map(sample).collect()
    }

    fn row(unit: Unit) -> Row {
        Row {
            name: "work",
            unit,
            samples: BTreeMap::from([
                (Kind::Wharfinger, samples(&[20.0, 10.0, 30.0])),
                (Kind::Distribution2, samples(&[10.0])),
            ]),
        }
    }

    #[test]
    fn a_ratio_above_one_is_better_in_every_unit() {
        assert_eq!(row(Unit::Requests).ratio(Kind::Distribution2), Some(2.0));
        assert_eq!(row(Unit::Memory).ratio(Kind::Distribution2), Some(0.5));
        assert_eq!(row(Unit::Memory).ratio(Kind::Nginx), None);
    }

    #[test]
    fn a_row_tells_the_median_and_the_spread() {
        let kinds = [Kind::Wharfinger, Kind::Distribution2, Kind::Nginx];
        assert_eq!(
            figures(&[row(Unit::Images)], &kinds),
            "| work | Wharfinger | Distribution 2.8.2 | nginx, sendfile \
             | × Distribution 2.8.2 | × nginx, sendfile |\n\
             |---|---|---|---|---|---|\n\
             | work (images/s) | 20.0 ±50 % | 10.0 ±0 % | – | 2.00 | – |"
        );
        assert_eq!(
            ratios(&[row(Unit::Images)], &kinds),
            "| work | × Distribution 2.8.2 |\n|---|---|\n| work | 2.00 |"
        );
    }

    #[test]
    fn the_table_takes_the_place_between_its_marks() {
        let folder = tempfile::tempdir().unwrap();
        let document = folder.path().join("doc.md");
        fs::write(&document, format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        write(&document, "new").unwrap();
        let text = fs::read_to_string(&document).unwrap();
        assert_eq!(text, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));

        fs::write(&document, "no place").unwrap();
        assert!(write(&document, "new").is_err());
    }
}
