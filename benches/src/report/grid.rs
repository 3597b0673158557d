//! Rows and columns, for a terminal and for Markdown.

/// A table: the first row is its head, and all rows have as many cells.
#[derive(Debug)]
pub(super) struct Grid(pub(super) Vec<Vec<String>>);

impl Grid {
    /// The first column and texts to the left, figures to the right.
    pub(super) fn aligned(&self) -> String {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let separator = if column == 0 { "" } else { "  " };
                let left = column == 0 || column + 1 == columns;
                line += &if left {
                    format!("{separator}{cell:<width$}")
                } else {
                    format!("{separator}{cell:>width$}")
                };
            }
            text = text + line.trim_end() + "\n";
        }
        text
    }

    /// The same with bars between.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.0.iter().enumerate() {
            let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
            if number == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let rows = [["a", "1", "x"], ["bcd", "200", "y|z"]];
        Grid(rows.map(|row| row.map(str::to_owned).to_vec()).to_vec())
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(grid().aligned(), "a      1  x\nbcd  200  y|z\n");
    }

    #[test]
    fn bars_are_escaped() {
        assert_eq!(grid().markdown(), "| a | 1 | x |\n|---|---|---|\n| bcd | 200 | y\\|z |\n");
    }
}
