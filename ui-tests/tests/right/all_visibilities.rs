//! Public and private types, public and private functions, at the top, in modules and in functions: without a warning.
#![deny(warnings)]

mod public_type {
    #[derive(Default)]
    pub struct One(u8);

    #[casty::entity]
    impl One {
        #[message]
        fn private(&self) -> u8 {
            self.0
        }

        #[message]
        pub fn public(&mut self, to: u8) {
            self.0 = to;
        }

        #[message]
        pub(crate) fn within_the_crate(&self) -> u8 {
            self.0
        }

        #[message]
        pub(super) fn above(&self) -> u8 {
            self.0
        }
    }
}

mod private_type {
    #[casty::message]
    #[derive(Clone)]
    struct Secret(u8);

    struct Two(Secret);

    impl Default for Two {
        fn default() -> Self {
            Self(Secret(1))
        }
    }

    #[casty::entity(name = "two")]
    impl Two {
        #[message]
        fn private(&self, with: Secret) -> Secret {
            Secret(self.0.0 + with.0)
        }

        #[message]
        pub fn public(&self) -> Result<Secret, Secret> {
            Ok(self.0.clone())
        }
    }

    pub fn call(reference: &TwoRef) {
        let _: casty::call::Call<Two, Secret> = reference.private(Secret(1));
        let _: casty::call::Call<Two, Secret, Secret> = reference.public();
    }
}

pub mod public_module {
    #[casty::message]
    struct Hidden(u8);

    #[derive(Default)]
    struct Three;

    #[casty::entity]
    impl Three {
        #[message]
        pub fn public(&self, with: Hidden) -> u8 {
            with.0
        }
    }

    #[derive(Default)]
    struct Local;

    #[casty::actor]
    impl Local {
        #[message]
        pub fn public(&self, with: Hidden) -> Hidden {
            with
        }
    }

    pub fn uses(three: &ThreeRef, local: &LocalRef) {
        let _ = three.public(Hidden(1));
        let _ = local.public(Hidden(2));
        let _ = Local;
    }
}

fn in_a_function() {
    #[casty::message]
    struct Inner(u8);

    #[derive(Default)]
    struct Four(u8);

    #[casty::entity]
    impl Four {
        #[message]
        fn private(&mut self, with: Inner) -> u8 {
            self.0 += with.0;
            self.0
        }
    }

    let _ = FourRef::private;
    let _ = FourMsg::Private { with: Inner(1) };
}

#[test]
fn works() {
    in_a_function();
    let _ = private_type::call;
    let _ = public_module::uses;
    let _ = public_type::OneRef::private;
    let _ = public_type::OneRef::within_the_crate;
    let _ = public_type::OneRef::above;
}
