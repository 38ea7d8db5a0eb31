//! The generated programs: a workspace for each side, with a package for each number of types.

use std::{fmt::Write as _, fs, io, path::Path};

/// Whose types are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Casty,
    Kameo,
}

/// Both, in the order of the table.
pub(crate) const SIDES: [Side; 2] = [Side::Casty, Side::Kameo];

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Casty => "casty",
            Self::Kameo => "kameo",
        }
    }

    fn dependency(self) -> String {
        match self {
            Self::Casty => {
                let casty = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../casty");
                format!("casty = {{ path = \"{}\" }}", casty.display())
            }
            // Without its feature `remote`: actors of one process, as a program without a network
            // has them.
            Self::Kameo => "kameo = \"0.22.2\"".to_owned(),
        }
    }

    /// What comes before the functions of a type's messages.
    fn head(self) -> &'static str {
        match self {
            Self::Casty => "use casty::prelude::*;\n\n#[derive(Default)]\npub struct Account {\n",
            Self::Kameo => {
                "use kameo::prelude::*;\n\n#[derive(Default, Actor)]\npub struct Account {\n"
            }
        }
    }

    fn attribute(self) -> &'static str {
        match self {
            Self::Casty => "#[entity]",
            Self::Kameo => "#[messages]",
        }
    }

    /// A function that sends each message once.
    fn drive(self) -> &'static str {
        match self {
            Self::Casty => {
                "
pub async fn drive(system: &ActorSystem) -> Result<(), Box<dyn std::error::Error>> {
    let account = system.entity::<Account>(\"a\");
    account.add(1).await?;
    account.rename(\"b\".to_owned()).await?;
    account.scale(2.0, 3).await?;
    account.reset().await?;
    println!(\"{}\", account.value().await?);
    println!(\"{}\", account.name().await?);
    println!(\"{:?}\", account.take(1).await?);
    println!(\"{:?}\", account.history(\"b\".to_owned()).await?);
    Ok(())
}
"
            }
            Self::Kameo => {
                "
pub async fn drive() -> Result<(), Box<dyn std::error::Error>> {
    let account = Account::spawn(Account::default());
    account.tell(Add { amount: 1 }).await?;
    account.tell(Rename { name: \"b\".to_owned() }).await?;
    account.tell(Scale { by: 2.0, times: 3 }).await?;
    account.tell(Reset).await?;
    println!(\"{}\", account.ask(Value).await?);
    println!(\"{}\", account.ask(Name).await?);
    println!(\"{:?}\", account.ask(Take { amount: 1 }).await?);
    println!(\"{:?}\", account.ask(History { prefix: \"b\".to_owned() }).await?);
    Ok(())
}
"
            }
        }
    }

    fn main(self, types: usize) -> String {
        let mut text = String::new();
        for index in 0..types {
            let _ = writeln!(text, "mod type_{index};");
        }
        text.push_str(
            "\n#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {\n",
        );
        let argument = match self {
            Self::Casty => {
                text.push_str("    let system = casty::ActorSystem::local(\"app\");\n");
                "&system"
            }
            Self::Kameo => "",
        };
        for index in 0..types {
            let _ = writeln!(text, "    type_{index}::drive({argument}).await?;");
        }
        text.push_str("    Ok(())\n}\n");
        text
    }
}

/// The messages, which both sides write alike: four tells and four asks.
const MESSAGES: &str = "
    #[message]
    pub fn add(&mut self, amount: i64) {
        self.value += amount + BONUS;
    }

    #[message]
    pub fn rename(&mut self, name: String) {
        self.names.push(name);
    }

    #[message]
    pub fn scale(&mut self, by: f64, times: u32) {
        self.factor *= by * f64::from(times);
    }

    #[message]
    pub fn reset(&mut self) {
        self.value = 0;
    }

    #[message]
    pub fn value(&self) -> i64 {
        self.value
    }

    #[message]
    pub fn name(&self) -> String {
        self.names.last().cloned().unwrap_or_default()
    }

    #[message]
    pub fn take(&mut self, amount: i64) -> Option<i64> {
        self.value = self.value.checked_sub(amount)?;
        Some(self.value)
    }

    #[message]
    pub fn history(&self, prefix: String) -> Vec<String> {
        let names = self.names.iter();
        names.filter(|name| name.starts_with(&prefix)).cloned().collect()
    }
";

/// The package with so many types.
pub(crate) fn package(side: Side, types: usize) -> String {
    format!("{}-{types}", side.name())
}

/// Writes the workspace of a side. A package without types is there for the dependencies.
pub(crate) fn write(folder: &Path, side: Side, types: &[usize]) -> io::Result<()> {
    let mut all = vec![0];
    all.extend_from_slice(types);
    let members: Vec<String> = all.iter().map(|count| package(side, *count)).collect();
    fs::create_dir_all(folder)?;
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = {members:?}\n\n[profile.release]\nstrip = true\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    for &count in &all {
        let name = package(side, count);
        let package = folder.join(&name);
        fs::create_dir_all(package.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{}\n\
             tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n",
            side.dependency()
        );
        fs::write(package.join("Cargo.toml"), manifest)?;
        fs::write(package.join("src/main.rs"), side.main(count))?;
        for index in 0..count {
            write_type(&package, side, index, 0)?;
        }
    }
    Ok(())
}

/// Writes a type. `bonus` makes one version of it differ from another, in the body of a message.
pub(crate) fn write_type(package: &Path, side: Side, index: usize, bonus: u32) -> io::Result<()> {
    let text = format!(
        "{}    value: i64,\n    names: Vec<String>,\n    factor: f64,\n}}\n\nconst BONUS: i64 = {bonus};\n\n\
         {}\nimpl Account {{{MESSAGES}}}\n{}",
        side.head(),
        side.attribute(),
        side.drive()
    );
    // Entity types of a program have different names.
    let text = text.replace("Account", &format!("Account{index}"));
    fs::write(package.join(format!("src/type_{index}.rs")), text)
}
