use casty::prelude::*;

#[message]
#[derive(Clone, Default)]
pub enum Light {
    #[default]
    Off,
    On {
        level: u8,
    },
}

impl Light {
    const LEVELS: usize = 4;
}

/// An actor may itself be a wire type, and may be an enum.
#[entity]
impl Light {
    #[message]
    fn set(&mut self, to: Self) -> Option<Self> {
        Some(std::mem::replace(self, to))
    }

    #[message]
    async fn levels(&self) -> [u8; Self::LEVELS] {
        [0; Self::LEVELS]
    }

    #[message]
    fn other(&self, light: LightRef, ctx: &mut Context<Light>) -> Result<LightRef, Vec<Self>> {
        if &light == &ctx.myself() {
            Err(vec![self.clone()])
        } else {
            Ok(light)
        }
    }

    /// Not a message.
    pub fn helper(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

#[test]
fn works() {
    let _: fn(&LightRef, Light) -> casty::call::Call<Light, Option<Light>> = LightRef::set;
    let _ = LightMsg::Set {
        to: Light::On { level: 1 },
    };
}
