//! Circles in a graph: Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972.

use std::collections::{BTreeMap, BTreeSet};

/// From a node to those it points to.
pub type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The circles: sets of nodes each of which can be reached from each other, the largest first.
pub fn circles<'a>(graph: &Graph<'a>) -> Vec<BTreeSet<&'a str>> {
    let mut search = Search {
        graph,
        numbers: BTreeMap::new(),
        lowest: BTreeMap::new(),
        stack: Vec::new(),
        found: Vec::new(),
    };
    for node in graph.keys() {
        if !search.numbers.contains_key(node) {
            search.visit(node);
        }
    }
    let mut found = search.found;
    found.retain(|circle| circle.len() > 1);
    found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    found
}

struct Search<'g, 'a> {
    graph: &'g Graph<'a>,
    /// In the order in which they were visited.
    numbers: BTreeMap<&'a str, usize>,
    /// The lowest number that can be reached, by way of the search's tree and one edge more.
    lowest: BTreeMap<&'a str, usize>,
    /// Visited, and of no component yet.
    stack: Vec<&'a str>,
    found: Vec<BTreeSet<&'a str>>,
}

impl<'a> Search<'_, 'a> {
    fn visit(&mut self, node: &'a str) -> usize {
        let number = self.numbers.len();
        self.numbers.insert(node, number);
        self.stack.push(node);
        let mut lowest = number;
        let graph = self.graph;
        for next in graph.get(node).into_iter().flatten() {
            let reached = match self.numbers.get(next) {
                None => self.visit(next),
                Some(&number) if self.stack.contains(next) => number,
                Some(_) => continue,
            };
            lowest = lowest.min(reached);
        }
        self.lowest.insert(node, lowest);
        if lowest == number {
            let at = self.stack.iter().position(|other| *other == node);
            let component = self.stack.split_off(at.unwrap_or(self.stack.len()));
            self.found.push(component.into_iter().collect());
        }
        lowest
    }
}
