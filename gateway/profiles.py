"""What is known of the app behind: its profile, shipped or the operator's own."""

import tomllib
from importlib import resources
from pathlib import Path

from gateway.config.model import ConfigError
from policy.routes import Profile, ProfileError, read_profile


def shipped() -> list[str]:
    """Return the names of the profiles that come with Locum."""
    files = resources.files("policy").joinpath("profiles").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_profile(name: str) -> Profile:
    """Return the profile of that name, or in that file if it ends in .toml; raises ConfigError."""
    own = name.endswith(".toml")
    try:
        if own:
            text = Path(name).read_text(encoding="utf-8")
        else:
            text = resources.files("policy").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")
        profile = read_profile(tomllib.loads(text))
    except (OSError, UnicodeDecodeError) as exc:
        known = ", ".join(shipped())
        raise ConfigError(
            f"upstream.profile: `{name}` cannot be read; shipped are {known}, or give a .toml file"
        ) from exc
    except (tomllib.TOMLDecodeError, ProfileError) as exc:
        raise ConfigError(f"upstream.profile: `{name}`: {exc}") from exc
    if profile.name != Path(name).name.removesuffix(".toml"):
        raise ConfigError(f"upstream.profile: `{name}` calls itself `{profile.name}`: make them the same")
    return profile
