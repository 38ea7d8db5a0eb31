//! The rows that are printed.

/// Of all processors, in percent.
const OTHERS_MAX: f64 = 10.0;

/// Prints a row, unless other processes have used the machine meanwhile.
pub(crate) fn row(key: &[String], figures: &[String], others: f64, is_forced: bool) {
    let key = key.join(" | ");
    let row = figures.join(" | ");
    if others <= OTHERS_MAX {
        println!("| {key} | {row} |");
    } else if is_forced {
        println!(
            "| {key} | {row} | other processes used {others:.0} % of the machine: only the ratio \
             says something"
        );
    } else {
        println!(
            "| {key} | no figure: other processes used {others:.0} % of the machine; `--force` \
             prints it |"
        );
    }
}
