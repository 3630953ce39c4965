//! Flame graphs (Gregg 2016, "The Flame Graph"): each function is as wide as it was often on the
//! stack, and stands on the one that called it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Stacks;

/// In pixels.
const WIDTH: f64 = 1400.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 40.0;
/// About how wide a letter is.
const LETTER: f64 = 6.6;
/// What is narrower is left out.
const NARROWEST: f64 = 0.5;

/// A function on top of its callers.
#[derive(Debug, Default)]
struct Frame<'a> {
    samples: u64,
    callees: BTreeMap<&'a str, Frame<'a>>,
}

impl Frame<'_> {
    fn depth(&self) -> usize {
        let callees = self.callees.values().map(Frame::depth);
        1 + callees.max().unwrap_or(0)
    }
}

/// Draws stacks as an SVG image. The pointer on a function shows its whole name.
pub fn draw(title: &str, stacks: &Stacks) -> String {
    let mut root = Frame::default();
    for (stack, samples) in stacks {
        root.samples += samples;
        let mut frame = &mut root;
        for function in stack {
            frame = frame.callees.entry(function).or_default();
            frame.samples += samples;
        }
    }
    let height = HEAD + ROW * root.depth() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"14\">{}: {} samples</text>\n",
        escaped(title),
        root.samples
    );
    let scale = WIDTH / root.samples.max(1) as f64;
    let drawing = Drawing {
        scale,
        all: root.samples,
    };
    drawing.put(&mut svg, "all", &root, 0.0, height - ROW);
    svg.push_str("</svg>\n");
    svg
}

struct Drawing {
    /// Pixels a sample.
    scale: f64,
    all: u64,
}

impl Drawing {
    fn put(&self, svg: &mut String, function: &str, frame: &Frame<'_>, x: f64, y: f64) {
        let width = frame.samples as f64 * self.scale;
        if width < NARROWEST {
            return;
        }
        let name = escaped(function);
        let share = frame.samples as f64 * 100.0 / self.all as f64;
        let letters = (width / LETTER) as usize;
        let shown = match letters {
            0..3 => String::new(),
            _ => escaped(&function.chars().take(letters).collect::<String>()),
        };
        // To write to memory does not fail.
        let _ = writeln!(
            svg,
            "<g><title>{name}: {share:.1} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" \
             width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">\
             {shown}</text></g>",
            ROW - 1.0,
            colour(function),
            x + 2.0,
            y + 12.0,
        );
        let mut x = x;
        for (function, callee) in &frame.callees {
            self.put(svg, function, callee, x, y - ROW);
            x += callee.samples as f64 * self.scale;
        }
    }
}

/// The kernel's functions are blue, the registry's own green, all others yellow.
fn colour(function: &str) -> &'static str {
    if function.ends_with("[kernel]") {
        "#9ec5f0"
    } else if function.contains("wharfinger") {
        "#9fd8a4"
    } else {
        "#f3d58a"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The functions by the share of samples in which each was on the stack, the largest first.
pub fn dearest(stacks: &Stacks) -> Vec<(f64, &str)> {
    let all: u64 = stacks.values().sum();
    let mut samples: BTreeMap<&str, u64> = BTreeMap::new();
    for (stack, times) in stacks {
        // Who calls itself counts once.
        for function in stack.iter().collect::<BTreeSet<_>>() {
            *samples.entry(function).or_default() += times;
        }
    }
    let share = |(function, times)| (times as f64 / all.max(1) as f64, function);
    let mut shares: Vec<_> = samples.into_iter().map(share).collect();
    shares.sort_by(|one, other| other.0.total_cmp(&one.0));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks() -> Stacks {
        let stack = |functions: &[&str]| functions.iter().map(ToString::to_string).collect();
        Stacks::from([
            (stack(&["main", "a<b>"]), 3),
            (stack(&["main", "c", "c"]), 1),
        ])
    }

    #[test]
    fn widths_are_shares() {
        let svg = draw("what & how", &stacks());
        assert!(svg.contains("what &amp; how: 4 samples"), "{svg}");
        assert!(svg.contains("<title>main: 100.0 %</title>"), "{svg}");
        assert!(svg.contains("<title>a&lt;b&gt;: 75.0 %</title>"), "{svg}");
        assert_eq!(svg.matches("<title>c: 25.0 %</title>").count(), 2, "{svg}");
    }

    #[test]
    fn who_calls_itself_counts_once() {
        let stacks = stacks();
        assert_eq!(
            dearest(&stacks),
            [(1.0, "main"), (0.75, "a<b>"), (0.25, "c")]
        );
    }
}
