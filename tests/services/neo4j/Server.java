import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/** A Neo4j server for the tests: folder, port, password, page cache in MB. It ends with its standard input, and so with whoever started it. */
class Server {
    public static void main(String[] arguments) throws Exception {
        var fresh = !Files.exists(Path.of(arguments[0]));
        var service = new DatabaseManagementServiceBuilder(Path.of(arguments[0]))
            .setConfig(BoltConnector.enabled, true)
            .setConfig(BoltConnector.listen_address, new SocketAddress("127.0.0.1", Integer.parseInt(arguments[1])))
            .setConfig(GraphDatabaseSettings.auth_enabled, true)
            .setConfig(GraphDatabaseSettings.pagecache_memory, Long.parseLong(arguments[3]) << 20)
            .build();
        // A server that is started again on its data has it already, and takes no other that is the same.
        if (fresh) {
            try (var transaction = service.database("system").beginTx()) {
                var password = Map.<String, Object>of("password", arguments[2]);
                transaction.execute("ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED", password);
                transaction.commit();
            }
        }
        System.out.println("ready");
        while (System.in.read() >= 0) { }
        Runtime.getRuntime().halt(0); // its folder goes with it: nothing to close
    }
}
